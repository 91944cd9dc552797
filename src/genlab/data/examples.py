"""Sources of data and their splits of examples, in memory or read from files on demand."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Split = Literal["train", "val", "test"]


class Reader(Protocol):
    """Function that reads an image which is not in memory: index to uint8 ``(C, H, W)``."""

    def __call__(self, index: int) -> Tensor: ...

    def fingerprint(self, indices: Iterable[int]) -> str:
        """Give a hash that changes whenever the images at these indices change."""
        ...


@dataclass(frozen=True)
class Examples:
    """Images, or points, and their classes.

    Attributes:
        images: examples in memory, grey levels as uint8 ``(N, C, H, W)`` or points as float ``(N, D)``; ``None`` if
            ``read`` reads them one by one.
        labels: classes as int64 ``(N,)``; zeros if the data has no classes.
        read: function that reads an example by its index, for data too large for memory; ``None`` for data in memory.
    """

    images: Tensor | None
    labels: Tensor
    read: Reader | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> "Examples":
        """Give the examples at int64 ``index`` ``(M,)`` as a split of their own, without reading files."""
        if self.images is not None:
            return Examples(self.images[index], self.labels[index])
        return Examples(None, self.labels[index], _Subset(self.read, index))

    def to(self, device: torch.device) -> "Examples":
        """Move the data to a device, if it is in memory."""
        return Examples(self.images.to(device), self.labels.to(device)) if self.images is not None else self

    def fingerprint(self) -> str:
        """Give a hash that changes whenever the examples change; files are hashed by name, size and time."""
        if self.images is None:
            assert self.read is not None
            return self.read.fingerprint(range(len(self)))
        pixels = self.images.cpu().contiguous()
        return hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()

    def take(self, index: Tensor) -> Tensor:
        """Give the examples at int64 ``index`` ``(B,)`` as they are stored, ``(B, ...)``."""
        if self.images is not None:
            return self.images[index.to(self.images.device)]
        assert self.read is not None
        return torch.stack([self.read(int(i)) for i in index])


class _Subset:
    """Reader of some of the files; picklable, because each worker gets a copy."""

    def __init__(self, read: "Reader | None", index: Tensor) -> None:
        assert read is not None
        self.read, self.index = read, index

    def __call__(self, index: int) -> Tensor:
        return self.read(int(self.index[index]))

    def fingerprint(self, indices: Iterable[int]) -> str:
        return self.read.fingerprint(int(self.index[i]) for i in indices)


class Source(Protocol):
    """Data set with at least a ``"train"`` split; missing validation and test splits are held out from it."""

    def load(self) -> dict[Split, Examples]:
        """Load the splits that the data set has.

        Raises:
            InputError: if the data is missing or damaged.
        """
        ...
