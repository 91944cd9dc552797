"""Where sliders of latents begin: at a test image, which the model encodes, or at a random latent of a seed."""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.playing.chosen import Chooser
from genlab.playing.stage import Stage, whole
from genlab.playing.widgets import class_field, classes_of, seed_fields
from genlab.views.latents import Latents
from genlab.views.traverse import Start, most_active


@dataclass(frozen=True)
class Begun:
    """A latent to begin at.

    Attributes:
        start: the latent, and its most active dimensions.
        y: class of the image, int64 ``(1,)``; None if the model has no classes.
        keys: keys of ``genlab sample mode=traverse`` that begin at the same latent.
    """

    start: Start
    y: Tensor | None
    keys: dict[str, Any]


class Beginning(ABC):
    """Fields that choose a latent to begin at.

    Args:
        stage: run that is played with.
        num: number of the most active dimensions to find.

    Attributes:
        inputs: the fields.
    """

    inputs: list[Any]

    def __init__(self, stage: Stage, num: int) -> None:
        self.stage, self.num = stage, num

    @abstractmethod
    def begun(self, *given: Any) -> Begun:
        """Find the latent that the values of the fields choose.

        Raises:
            InputError: if a field is empty, or the data is missing.
        """


class AtAnImage(Beginning):
    """The fields of models with an encoder: a test image.

    Args:
        stage: run that is played with.
        num: number of the most active dimensions to find.
        background: number of test images that say how active a dimension is.
    """

    def __init__(self, stage: Stage, num: int, background: int) -> None:
        super().__init__(stage, num)
        self.background = background
        self.chooser = Chooser(stage, own=False)
        self.inputs = [self.chooser.index]

    @cached_property
    def _images(self) -> tuple[Tensor, Tensor]:
        return self.stage.run.data.some("test", self.background)

    def begun(self, *given: Any) -> Begun:
        chosen = self.chooser.begun(given[0], None, None)
        if chosen is None:
            raise InputError(f"latents begin at a test image, which is not here: {self.stage.missing_data}")
        start = most_active(Latents(self.stage.run.model), chosen.x, chosen.y, self.num, *self._images)
        return Begun(start, chosen.y, chosen.keys)


class AtASeed(Beginning):
    """The fields of models without an encoder: the seed of a random latent, and a class.

    Args:
        stage: run that is played with.
        num: number of the most active dimensions to find.
    """

    def __init__(self, stage: Stage, num: int) -> None:
        super().__init__(stage, num)
        seed, _ = seed_fields()
        self.inputs = [seed, class_field(stage.run)]

    def begun(self, *given: Any) -> Begun:
        seed, run = whole("seed", given[0], 0), self.stage.run
        number = classes_of(given[1], run)
        y = None if number is None else torch.tensor([number])
        return Begun(most_active(Latents(run.model, seed), None, y, self.num), y, {"seed": seed})
