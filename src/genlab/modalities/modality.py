"""The interface of a modality, through which other code handles all kinds of data without knowing which one it has."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image
from torch import Tensor

from genlab.pictures.files import save_png

Height = Callable[[Tensor], Tensor]  # function from points of the plane (B, 2) to a value at each point, (B,)


@dataclass(frozen=True)
class Rendering:
    """Examples in the form shown to people.

    Attributes:
        picture: picture of all examples; None for text.
        texts: one text per example; None if the examples are shown as a picture.
    """

    picture: Image.Image | None = None
    texts: Sequence[str] | None = None

    def save(self, stem: Path) -> Path:
        """Write ``<stem>.png``, or the file type of the modality, and return the path."""
        assert self.picture is not None
        path = stem.with_name(f"{stem.name}.png")
        save_png(self.picture, path)
        return path


class Modality(ABC):
    """A kind of data, such as images; every DataModule has one.

    Attributes:
        name: identifier, used in a model's ``kinds`` and a dataset's ``kind``.
        noun: plural noun for examples in messages.
        counted: plural noun for what speeds count, such as ``tokens``; None for that of examples.
        is_measured: whether figures are measured on samples, which then are drawn by the thousand; otherwise samples
            are only shown.
        is_tiled: whether an example is a picture by itself, so that examples can be arranged in a grid.
        is_overlaid: whether samples are shown on top of real examples, which :meth:`render` then needs.
        is_numeric: whether the values are numbers, and not indices such as those of tokens.
        task: name of the task of drawing such examples on the Hugging Face Hub; None if the Hub has none.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    counted: ClassVar[str | None] = None
    is_measured: ClassVar[bool] = True
    is_tiled: ClassVar[bool] = False
    is_overlaid: ClassVar[bool] = False
    is_numeric: ClassVar[bool] = True
    task: ClassVar[str | None] = None

    @property
    def unit_of_speed(self) -> str:
        """Unit of speeds, such as ``images/s`` or ``tokens/s``."""
        return f"{self.counted or self.noun}/s"

    def counted_in(self, shape: Sequence[int]) -> int:
        """Count what speeds count in an example of a shape: 1, as it is the example itself, unless overridden."""
        return 1

    @abstractmethod
    def check(self, shape: Sequence[int]) -> None:
        """Check the shape of an example.

        Raises:
            InputError: if examples of this modality cannot have this shape.
        """

    @abstractmethod
    def render(
        self,
        samples: Tensor,
        real: Tensor | None = None,
        *,
        density: Height | None = None,
        surface: Height | None = None,
    ) -> Rendering:
        """Render samples as a picture or as texts.

        Args:
            samples: samples, ``(N, *shape)``.
            real: real examples to show below the samples, ``(M, *shape)``; used only if the modality is overlaid.
            density: log-density of the model in nats, for points in the plane; other modalities ignore it.
            surface: function that colours the plane, such as a discriminator's logits; other modalities ignore it.
        """

    def num_shown(self, num: int) -> int:
        """Return the number of samples to show instead of ``num`` images."""
        return num

    def num_watched(self, num: int) -> int:
        """Return the number of samples to draw after every validation instead of ``num`` images."""
        return self.num_shown(num)

    def to_storage(self, samples: Tensor) -> np.ndarray | None:
        """Convert samples ``(N, *shape)`` to the array that is saved; None if saving their rendering is enough."""
        return samples.detach().float().cpu().numpy()

    def features_view(self, samples: Tensor) -> Tensor:
        """Convert samples ``(N, *shape)`` to the input of a feature extractor."""
        return samples

    def from_grey(self, x: Tensor) -> Tensor:
        """Convert stored grey levels, scaled to [0, 1], to the input of models."""
        return x
