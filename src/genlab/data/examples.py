"""What a source of data gives: the splits it has, in memory or read from files as they are asked for."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

Split = Literal["train", "val", "test"]


class Reader(Protocol):
    """Reads images that are not in memory: index to uint8 ``(C, H, W)``."""

    def __call__(self, index: int) -> Tensor: ...

    def fingerprint(self, indices: Iterable[int]) -> str: ...


@dataclass(frozen=True)
class Examples:
    """Images, or points, and their classes.

    Attributes:
        images: in memory, uint8 ``(N, C, H, W)`` grey levels or float points ``(N, D)``; ``None`` where ``read`` reads
            them one by one.
        labels: int64 ``(N,)``; zeros where the data has no classes.
        read: for data too large for memory.
    """

    images: Tensor | None
    labels: Tensor
    read: Reader | None = None

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Tensor) -> "Examples":
        if self.images is not None:
            return Examples(self.images[index], self.labels[index])
        return Examples(None, self.labels[index], _Subset(self.read, index))

    def to(self, device: torch.device) -> "Examples":
        """What is in memory, on a device."""
        return Examples(self.images.to(device), self.labels.to(device)) if self.images is not None else self

    def fingerprint(self) -> str:
        """Another one for other images; of files, by their names, sizes and times."""
        if self.images is None:
            assert self.read is not None
            return self.read.fingerprint(range(len(self)))
        pixels = self.images.cpu().contiguous()
        return hashlib.sha256(repr(tuple(pixels.shape)).encode() + pixels.numpy().tobytes()).hexdigest()

    def take(self, index: Tensor) -> Tensor:
        """Some examples, as they are stored."""
        if self.images is not None:
            return self.images[index.to(self.images.device)]
        assert self.read is not None
        return torch.stack([self.read(int(i)) for i in index])


class _Subset:
    """A picklable view (workers get a copy) of some of the files."""

    def __init__(self, read: "Reader | None", index: Tensor) -> None:
        assert read is not None
        self.read, self.index = read, index

    def __call__(self, index: int) -> Tensor:
        return self.read(int(self.index[index]))

    def fingerprint(self, indices: Iterable[int]) -> str:
        return self.read.fingerprint(int(self.index[i]) for i in indices)


class Source(Protocol):
    """A data set: at least a ``"train"`` split; what it has no split of its own for is held out from it."""

    def load(self) -> dict[Split, Examples]: ...
