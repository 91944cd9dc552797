"""Base of all views, the ways to look at a run's model: options, applicability, and the picture that is shown."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from genlab.errors import InputError
from genlab.machine.memory import check_fits
from genlab.metrics.drawing import bytes_of
from genlab.modalities.modality import Modality
from genlab.pictures.files import film, save_array, save_png
from genlab.pictures.grid import grid
from genlab.runs.loading import Run

SIZES = ("n", "steps", "draws")  # options of views that say how much is drawn


@dataclass(frozen=True)
class Shown:
    """A picture, and the values that it shows.

    Attributes:
        picture: picture to save.
        samples: examples on the picture, ``(N, *shape)``, or other values, such as latents or bits.
        columns: number of samples in a row of the picture.
        moves: whether a row shows something moving, so that a film of the columns makes sense.
        captions: lines of text above the frames of the film, one for each column; empty for none.
        are_examples: whether the samples are examples, to be saved in the format of their modality, or other values.
    """

    picture: Image.Image
    samples: Tensor
    columns: int = 1
    moves: bool = False
    are_examples: bool = True
    captions: Sequence[str] = ()

    def save(self, target: Path, modality: Modality) -> list[Path]:
        """Write the picture, the samples beside it as ``.npy``, and a film if something moves.

        Args:
            target: path of the picture, with the suffix ``.png``.
            modality: kind of data of the samples, if they are examples.

        Returns:
            The paths of the files that were written.
        """
        target.parent.mkdir(parents=True, exist_ok=True)
        save_png(self.picture, target)
        written = [target]
        as_they_are = self.samples.detach().float().cpu().numpy
        kept = modality.to_storage(self.samples) if self.are_examples else as_they_are()
        if kept is not None:
            written.append(target.with_suffix(".npy"))
            save_array(kept, written[-1])
        if self.moves:  # all rows at once, from left to right
            frames = [grid(self.samples[i :: self.columns]) for i in range(self.columns)]
            written.append(target.with_suffix(".gif"))
            captions = [*self.captions, *self.captions[-2:0:-1]]
            film([*frames, *frames[-2:0:-1]], written[-1], seconds=4, captions=captions)
        return written


@dataclass(frozen=True, kw_only=True)
class View(ABC):
    """A way to look at a run's model: ``genlab sample mode=NAME``.

    To add a view, write a class in a file of its own, and a file in ``conf/mode`` that names the class.

    Attributes:
        mode: name of the view on the command line and in the names of its files.

    Args:
        seed: random seed of everything that is drawn.
    """

    mode: ClassVar[str]

    seed: int = 0

    def __post_init__(self) -> None:
        for name in SIZES:
            if (value := getattr(self, name, 1)) < 1:
                raise InputError(f"{name}={value}: give a number of samples, 1 or more")

    @property
    def name(self) -> str:
        """Name of the view's files, without suffix; different settings give different names."""
        return f"{self.mode}-seed{self.seed}-n{getattr(self, 'n', 8)}"

    @property
    def num_drawn(self) -> int:
        """Number of examples that the view draws, at most."""
        return math.prod(value for name in SIZES if (value := getattr(self, name, None)) is not None)

    def check_memory(self, run: Run) -> None:
        """Check that what is drawn will fit in memory, before anything is.

        Raises:
            InputError: if it will not.
        """
        said = ", ".join(f"{name}={getattr(self, name)}" for name in SIZES if getattr(self, name, None) is not None)
        check_fits(bytes_of(self.num_drawn, run.model), f"{said}: too many samples; draw fewer")

    def check(self, run: Run) -> None:
        """Raise InputError if the view does not apply to a run; unless overridden, a view applies to images only."""
        if not run.modality.is_tiled:
            noun = run.modality.noun
            raise InputError(f"mode={self.mode} is for images; this run's model draws {noun}: mode=grid shows them")

    @abstractmethod
    def show(self, run: Run) -> Shown:
        """Make the picture of a run's model.

        Args:
            run: run to look at.

        Raises:
            InputError: if the view does not apply to the run, or a setting does not fit its model or data.
        """


def numbered(*groups: list[int] | list[str] | None) -> str:
    """Join settings to the end of a file name, such as ``-3-17``; None is left out."""
    return "".join(f"-{i}" for group in groups for i in group or [])


def chosen_classes(run: Run, classes: int | list[int] | None, num: int) -> Tensor | None:
    """Give the classes of samples, int64 ``(num,)``, or None if classes are to be drawn at random.

    Args:
        run: run whose model is sampled.
        classes: class of all samples, or a list of classes to take in turns; None to draw them.
        num: number of samples.

    Raises:
        InputError: if the run's model is not class-conditional.
    """
    if classes is None:
        return None
    if run.model.num_classes is None:
        raise InputError("classes=...: this run's model is not class-conditional")
    chosen = [classes] if isinstance(classes, int) else classes
    return torch.tensor([chosen[i % len(chosen)] for i in range(num)])


def chosen_images(run: Run, images: list[int] | None, first: Tensor) -> tuple[Tensor, Tensor]:
    """Give images of the test set as the model sees them, ``(N, C, H, W)``, and their classes, ``(N,)``.

    Args:
        run: run whose test set is used.
        images: indices of the images in the test set; None for ``first``.
        first: indices to use if ``images`` is None; those beyond the end are left out.

    Raises:
        InputError: if there is no such image.
    """
    of = run.data.splits["test"]
    chosen = images or [i for i in first.tolist() if i < len(of)]
    if not 0 <= min(chosen) <= max(chosen) < len(of):
        raise InputError(f"images={chosen}: the test set has the images 0 to {len(of) - 1}")
    index = torch.tensor(chosen)
    return run.data.transform("test", augment=False)(of.take(index), index, 0), of.labels[index]
