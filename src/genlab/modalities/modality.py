"""What every kind of data answers, so that nobody else asks what kind it is."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from PIL import Image
from torch import Tensor

from genlab.pictures.files import save_png

Height = Callable[[Tensor], Tensor]  # points of the plane (B, 2) to a height over each, (B,)


@dataclass(frozen=True)
class Rendering:
    """Examples as people look at them.

    Attributes:
        picture: a picture of all of them; None if they are read, not looked at.
        texts: the examples as texts; None if they are looked at.
    """

    picture: Image.Image | None = None
    texts: Sequence[str] | None = None

    def save(self, stem: Path) -> Path:
        """Write ``<stem>.png``, or another modality's own kind of file, and give its path."""
        assert self.picture is not None
        path = stem.with_name(f"{stem.name}.png")
        save_png(self.picture, path)
        return path


class Modality(ABC):
    """A kind of data, such as images. A DataModule has one, and everything else asks it.

    Attributes:
        name: the word by which a model's ``kinds`` and a dataset's ``kind`` name it.
        noun: the word for several examples, in messages.
        is_measured: whether samples are measured in numbers, and so drawn by the thousand; otherwise they are only
            shown.
        is_tiled: whether an example is a picture by itself, so that rows and columns of them can be made.
        is_overlaid: whether samples are shown over the data, so that a rendering takes real examples.
    """

    name: ClassVar[str]
    noun: ClassVar[str]
    is_measured: ClassVar[bool] = True
    is_tiled: ClassVar[bool] = False
    is_overlaid: ClassVar[bool] = False

    @abstractmethod
    def check(self, shape: Sequence[int]) -> None:
        """Check the shape of an example.

        Raises:
            InputError: if examples of this modality cannot have it.
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
        """Show samples.

        Args:
            samples: the samples, ``(N, *shape)``.
            real: examples of the data to show them over, ``(M, *shape)``; used if the modality is overlaid.
            density: the log-density of a model of the plane, in nats; modalities without a plane ignore it.
            surface: a height that colours the plane, such as a discriminator's logits; likewise.
        """

    def num_shown(self, num: int) -> int:
        """Give how many samples make a picture where ``num`` images would."""
        return num

    def num_watched(self, num: int) -> int:
        """Give how many samples are drawn after every validation, where ``num`` images would be."""
        return self.num_shown(num)

    def to_storage(self, samples: Tensor) -> np.ndarray | None:
        """Convert samples ``(N, *shape)`` to the array that is kept of them; None if their rendering says it all."""
        return samples.detach().float().cpu().numpy()

    def features_view(self, samples: Tensor) -> Tensor:
        """Convert samples ``(N, *shape)`` to what an extractor of features sees of them."""
        return samples

    def from_grey(self, x: Tensor) -> Tensor:
        """Convert grey levels in [0, 1] to what models see, for data that is stored as grey levels."""
        return x
