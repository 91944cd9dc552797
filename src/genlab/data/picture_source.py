"""The base of sources of picture files: pictures are decoded once to one shape, and kept in the cache."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlab.data.damaged import Damaged
from genlab.data.examples import Examples, Split
from genlab.data.folders import counted
from genlab.data.pixel_cache import Pixels, decoded, pixels_of
from genlab.errors import InputError

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
NUM_LOOKED = 200  # images that are read at the start if there are too many to keep in memory
NUM_NAMED = 12  # classes whose images are counted by name


class PictureReader(ABC):
    """Reader of pictures from their files, or of their pixels once these are in the cache.

    Attributes:
        kept: the pixels in the cache; None as long as there are none.
    """

    kept: Pixels | None = None

    @property
    @abstractmethod
    def names(self) -> Sequence[str]:
        """The names of the pictures in their folder, the same wherever it lies."""

    @abstractmethod
    def decode(self, index: int, notes: list[str] | None = None) -> Tensor:
        """Read a picture from its file, uint8 ``(C, H, W)``; ``notes`` receives what had to be done to show it."""

    @abstractmethod
    def fingerprint(self, indices: Iterable[int]) -> str:
        """Give a hash that changes whenever the pictures at these indices, or their shape, change."""

    @abstractmethod
    def identity(self, indices: Iterable[int]) -> str:
        """Give a hash of the pictures at these indices that stays the same if the files are moved or copied."""

    def __call__(self, index: int) -> Tensor:
        return self.decode(index) if self.kept is None else self.kept[index]


class PictureSource(ABC):
    """Source of pictures in files, which are decoded to one shape.

    Pictures are read as :func:`~genlab.data.picture_files.read_image` does. Those of another size are cropped at the
    centre to the aspect ratio and resized (Lanczos); they are converted to grey or colour as ``shape`` requires.

    Args:
        path: path of the folder, or of the file, of the pictures.
        shape: shape ``(C, H, W)`` of the resulting images; C is 1 or 3.
        memory_limit_gb: size in GiB above which the images stay on disk and are read by workers.
        cache_dir: folder in which decoded images are kept, so that a second start decodes none; None for no cache.

    Attributes:
        found: what was found and what was left out, in one line, after the images are loaded.

    Raises:
        InputError: if ``shape`` has neither 1 nor 3 channels.
    """

    found = ""

    def __init__(
        self, path: str, shape: tuple[int, int, int], memory_limit_gb: float = 4.0, cache_dir: str | None = None
    ) -> None:
        if shape[0] not in (1, 3):
            raise InputError(f"pictures are read as grey (1) or colour (3) images, not of {shape[0]} channels")
        self.path, self.shape, self.memory_limit_gb = Path(path).expanduser(), shape, memory_limit_gb
        self.cache = None if cache_dir is None else Path(cache_dir).expanduser() / "pictures"

    @abstractmethod
    def load(self) -> dict[Split, Examples]:
        """Load the splits that the files have.

        Raises:
            InputError: if there are no pictures, or some of them are damaged.
        """

    @abstractmethod
    def class_names(self) -> list[str]:
        """List the classes of the training images, in the order of their numbers; empty if there are fewer than two.

        Raises:
            InputError: if there is nothing to read.
        """

    def examples(self, read: PictureReader, labels: Tensor, notes: list[str]) -> Examples:
        """Give the examples of a split: decoded into the cache, or into memory, or read one by one.

        Args:
            read: reader of the split's pictures.
            labels: classes, int64 ``(N,)``.
            notes: list that receives what had to be done to show the pictures, as far as they are read.
        """
        num, is_large = len(labels), len(labels) * int(np.prod(self.shape)) > self.memory_limit_gb * 2**30
        pixels = None
        if self.cache is not None:
            pixels = pixels_of(read.decode, num, self.shape, read.fingerprint(range(num)), self.cache)
        if pixels is not None:
            notes += pixels.notes.elements()
            read.kept = pixels
            if is_large:
                return Examples(None, labels, read, read.names)
            return Examples(torch.from_numpy(pixels.mapped), labels, names=read.names, kept=pixels)
        if is_large:
            with Damaged() as damaged:
                for i in _spread(num):
                    with damaged.noted():
                        read.decode(i, notes)
            return Examples(None, labels, read, read.names)
        images = torch.empty(num, *self.shape, dtype=torch.uint8)
        first = 0
        for part in decoded(read.decode, num, self.shape, notes):
            images[first : first + len(part)] = torch.from_numpy(part)
            first += len(part)
        return Examples(images, labels, names=read.names)


def done_to(splits: dict[Split, Examples], notes: list[str]) -> str:
    """Say what had to be done to show the pictures of all splits, as far as they have been read."""
    looked = sum(len(s) if s.read is None or s.kept_by_reader else len(_spread(len(s))) for s in splits.values())
    which = "" if looked == sum(map(len, splits.values())) else f"of {looked:,} that were looked at, "
    return which + counted(Counter(notes)) if notes else ""


def by_class(names: Iterable[str]) -> str:
    """Count the pictures of a split by the names of their classes, in brackets; empty if they are of one class."""
    counts = Counter(name or "outside of class folders" for name in names)
    if len(counts) == 1:
        return ""
    if len(counts) <= NUM_NAMED:
        return f" ({counted(counts)})"
    return f" ({len(counts):,} classes of {min(counts.values()):,} to {max(counts.values()):,})"


def _spread(num: int) -> list[int]:
    """Give indices of at most ``NUM_LOOKED`` of ``num`` images, evenly spaced."""
    return np.linspace(0, num - 1, min(num, NUM_LOOKED)).round().astype(int).tolist()
