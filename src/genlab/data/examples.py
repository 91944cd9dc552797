"""Sources of data and their splits of examples, in memory or read from files on demand."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

Split = Literal["train", "val", "test"]


class Reader(Protocol):
    """Function that reads an image which is not in memory: index to uint8 ``(C, H, W)``.

    A reader may also have a method ``identity``, like ``fingerprint`` but for a hash that stays the same if the files
    are moved or copied, so that a run on them can be continued elsewhere; and an attribute ``kept``, a file of all its
    images from which many can be read at once, or None.
    """

    def __call__(self, index: int) -> Tensor: ...

    def fingerprint(self, indices: Iterable[int]) -> str:
        """Give a hash that changes whenever the images at these indices change."""
        ...


class Kept(Protocol):
    """A file of examples that is mapped into memory."""

    def take(self, index: Tensor) -> Tensor:
        """Copy the examples at int64 ``index`` ``(B,)`` into memory without keeping those of the file there, too."""
        ...


@dataclass(frozen=True)
class Examples:
    """Images, or points, and their classes.

    Attributes:
        images: examples in memory, grey levels as uint8 ``(N, C, H, W)`` or points as float ``(N, D)``; ``None`` if
            ``read`` reads them one by one.
        labels: classes as int64 ``(N,)``; zeros if the data has no classes.
        read: function that reads an example by its index, for data too large for memory; ``None`` for data in memory.
        names: a different name for each example, such as its file's, by which it is held out for validation or test;
            ``None`` if examples have no names, and are held out by their positions.
        kept: file that ``images`` are mapped from; ``None`` for images that were read into memory.
    """

    images: Tensor | None
    labels: Tensor
    read: Reader | None = None
    names: Sequence[str] | None = None
    kept: "Kept | None" = None

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def num_in_memory(self) -> int | None:
        """The number of examples in memory, which must equal that of the labels; ``None`` if they are read."""
        return None if self.images is None else len(self.images)

    def subset(self, index: Tensor) -> "Examples":
        """Give the examples at int64 ``index`` ``(M,)`` as a split of their own, without reading files."""
        names = None if self.names is None else [self.names[i] for i in index.tolist()]
        if self.images is not None:
            images = self.images[index] if self.kept is None else self.kept.take(index)
            return Examples(images, self.labels[index], names=names)
        return Examples(None, self.labels[index], _Subset(self.read, index), names)

    def to(self, device: torch.device) -> "Examples":
        """Move the data to a device, if it is in memory."""
        if self.images is None:
            return self
        return Examples(self.images.to(device), self.labels.to(device), names=self.names)

    def fingerprint(self) -> str:
        """Give a hash that changes whenever the examples change; files are hashed by name, size and time."""
        if self.images is None:
            assert self.read is not None
            return self.read.fingerprint(range(len(self)))
        return self._content

    @cached_property
    def _content(self) -> str:
        assert self.images is not None
        pixels = self.images.cpu().contiguous()
        digest = hashlib.sha256(repr(tuple(pixels.shape)).encode())
        digest.update(pixels.view(torch.uint8).numpy().data)  # without a copy: data sets are large
        return digest.hexdigest()

    def identity(self) -> str:
        """Give a hash of the examples and their classes that does not depend on where they lie.

        Examples in memory are hashed by their values, files by their relative names and sizes and the content of a few:
        a folder that was moved or copied has the same hash.
        """
        if self.images is None:
            assert self.read is not None
            what = getattr(self.read, "identity", self.read.fingerprint)(range(len(self)))
        else:
            what = f"{self.images.dtype} {self.fingerprint()}"
        return hashlib.sha256(what.encode() + self.labels.cpu().long().numpy().tobytes()).hexdigest()

    def take(self, index: Tensor) -> Tensor:
        """Give the examples at int64 ``index`` ``(B,)`` as they are stored, ``(B, ...)``."""
        if self.images is not None:
            return self.images[index.to(self.images.device)]
        assert self.read is not None
        if (kept := self.kept_by_reader) is not None:
            return kept.take(index)
        return torch.stack([self.read(int(i)) for i in index])

    @property
    def kept_by_reader(self) -> "Kept | None":
        """The file that the reader reads many examples from at once; None if it reads them one by one."""
        return getattr(self.read, "kept", None)


class _Subset:
    """Reader of some of the files; picklable, because each worker gets a copy."""

    def __init__(self, read: "Reader | None", index: Tensor) -> None:
        assert read is not None
        self.read, self.index = read, index

    def __call__(self, index: int) -> Tensor:
        return self.read(int(self.index[index]))

    @property
    def kept(self) -> "Kept | None":
        whole: Kept | None = getattr(self.read, "kept", None)
        return None if whole is None else _KeptSubset(whole, self.index)

    def fingerprint(self, indices: Iterable[int]) -> str:
        return self.read.fingerprint(int(self.index[i]) for i in indices)

    def identity(self, indices: Iterable[int]) -> str:
        known: Callable[[Iterable[int]], str] = getattr(self.read, "identity", self.read.fingerprint)
        return known(int(self.index[i]) for i in indices)


@dataclass(frozen=True)
class _KeptSubset:
    """Some of the examples of a file."""

    whole: Kept
    index: Tensor

    def take(self, index: Tensor) -> Tensor:
        return self.whole.take(self.index[index])


class Source(Protocol):
    """Data set with at least a ``"train"`` split; missing validation and test splits are held out from it.

    A source whose class and arguments alone decide its examples, such as a published data set that is verified when it
    is read, has an attribute ``fixed = True``. The examples of all other sources are hashed, because a path does not
    say what lies there; see :func:`is_fixed`.
    """

    def load(self) -> dict[Split, Examples]:
        """Load the splits that the data set has.

        Raises:
            InputError: if the data is missing or damaged.
        """
        ...


@runtime_checkable
class NamesClasses(Protocol):
    """A source that knows what its classes are called."""

    def class_names(self) -> list[str]:
        """List the classes in the order of their numbers; empty if there are fewer than two.

        Raises:
            InputError: if the names are read with the data, which is missing or damaged.
        """
        ...


def is_fixed(source: object) -> bool:
    """Tell whether a source says that it is fixed; a subclass with a ``load`` of its own has to say so again."""
    if not getattr(source, "fixed", False):
        return False
    if "fixed" in getattr(source, "__dict__", {}):
        return True
    classes = type(source).__mro__
    said, loads = (
        next((i for i, one in enumerate(classes) if name in vars(one)), len(classes)) for name in ("fixed", "load")
    )
    return said <= loads
