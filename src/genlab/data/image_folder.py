"""Any folder of images, of any size, with or without one subfolder per class."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from genlab.data.examples import Examples, Split
from genlab.data.folders import counted, find_files, subfolders
from genlab.data.picture_files import READ_AS, read_image, suffixes
from genlab.data.pixel_cache import Pixels, decoded, pixels_of
from genlab.errors import InputError

SPLIT_NAMES: dict[Split, tuple[str, ...]] = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
NUM_LOOKED = 200  # images that are read at the start if there are too many to keep in memory
NUM_NAMED = 12  # classes whose images are counted by name


class ImageFolder:
    """Source of the images in a folder, searched recursively.

    If ``path/train`` exists, ``path/{train,val,test}`` are the splits; ``training``, ``valid``, ``validation``,
    ``dev`` and ``testing`` are read alike, in capitals or not. Inside a split (or ``path``), the first subfolder an
    image lies in is its class; classes are numbered in alphabetical order. Links to folders are followed; hidden files
    and folders are left out, and counted.

    Images are read as :func:`~genlab.data.picture_files.read_image` does. Those of another size are cropped at the
    centre to the aspect ratio and resized (Lanczos); they are converted to grey or colour as ``shape`` requires.

    Args:
        path: path of the folder.
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
            raise InputError(f"an image folder gives grey (1) or colour (3) images, not {shape[0]} channels")
        self.path, self.shape, self.memory_limit_gb = Path(path).expanduser(), shape, memory_limit_gb
        self.cache = None if cache_dir is None else Path(cache_dir).expanduser() / "pictures"

    def load(self) -> dict[Split, Examples]:
        classes: list[str] | None = None
        splits: dict[Split, Examples] = {}
        counts: list[str] = []
        notes: list[str] = []
        empty: list[str] = []
        looked = 0
        folders, left_out = self._folders()
        for split, folder in folders.items():
            files, skipped = images_in(folder)
            names = [_class_of(file, folder) for file in files]
            classes = classes or sorted(set(names))
            if unknown := set(names) - set(classes):
                has = f"the class '{min(unknown)}'" if min(unknown) else "images outside of class folders"
                raise InputError(f"{folder} has {has}, which the training images do not have")
            labels = torch.tensor([classes.index(name) for name in names])
            read = _Reader(files, self.shape, folder)
            splits[split] = self._examples(read, labels, notes)
            looked += len(files) if splits[split].read is None or read.kept else len(_spread(len(files)))
            counts.append(f"{split} {len(files):,} images{_by_class(names)}")
            left_out += skipped
            empty += [str(sub.relative_to(self.path)) for sub in subfolders(folder) if sub.name not in names]
        if folders["train"] == self.path:
            counts = [counts[0].removeprefix("train ")]
        parts = [", ".join(counts), _done(looked == sum(map(len, splits.values())), looked, notes)]
        parts += [f"left out: {counted(left_out)}"] if left_out else []
        parts += [f"no images in {', '.join(empty)}"] if empty else []
        self.found = f"{self.path}: " + "; ".join(part for part in parts if part)
        return splits

    def class_names(self) -> list[str]:
        """List the classes of the training images, in the order of their numbers; empty if there are fewer than two.

        Raises:
            InputError: if there is no such folder, or no image in it.
        """
        folder = self._folders()[0]["train"]
        names = {_class_of(file, folder) for file in images_in(folder)[0]}
        return sorted(names) if len(names) > 1 else []

    def _folders(self) -> tuple[dict[Split, Path], Counter[str]]:
        """Find the folder of each split, and count what lies beside these folders."""
        if not self.path.is_dir():
            raise InputError(f"there is no folder {self.path}: give a folder of images as dataset.source.path=...")
        there = subfolders(self.path)
        named = {split: [sub for sub in there if sub.name.lower() in names] for split, names in SPLIT_NAMES.items()}
        if doubled := next((subs for subs in named.values() if len(subs) > 1), None):
            raise InputError(f"{doubled[0]} and {doubled[1]} are both there: keep one of them, or put them together")
        if not named["train"]:
            if held_out := [sub for sub in named["test"] + named["val"] if sub.name.lower() != "dev"]:  # or a class
                raise InputError(f"{self.path} has {held_out[0].name}/ and no train/: put the training images there")
            return {"train": self.path}, Counter()
        folders = {split: subs[0] for split, subs in named.items() if subs}
        beside = find_files(self.path, suffixes(), without=folders.values())
        left_out = beside.skipped + Counter(
            f"images {f'in {name}/' if (name := _class_of(file, self.path)) else 'beside train/'}"
            for file in beside.files
        )
        return folders, left_out

    def _examples(self, read: "_Reader", labels: Tensor, notes: list[str]) -> Examples:
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
            for i in _spread(num):
                read.decode(i, notes)
            return Examples(None, labels, read, read.names)
        images = torch.empty(num, *self.shape, dtype=torch.uint8)
        first = 0
        for part in decoded(read.decode, num, self.shape, notes):
            images[first : first + len(part)] = torch.from_numpy(part)
            first += len(part)
        return Examples(images, labels, names=read.names)


def _done(all_of_them: bool, looked: int, notes: list[str]) -> str:
    """Say what had to be done to show the images, as far as they have been read."""
    which = "" if all_of_them else f"of {looked:,} that were looked at, "
    return which + counted(Counter(notes)) if notes else ""


def images_in(folder: Path) -> tuple[list[Path], Counter[str]]:
    """List the image files below a folder, sorted, and count what was left out by reason.

    Raises:
        InputError: if there is no image.
    """
    found = find_files(folder, suffixes())
    if not found.files:
        left_out = f"; left out: {counted(found.skipped)}" if found.skipped else ""
        raise InputError(f"there are no images in {folder} ({', '.join(sorted(suffixes()))} are looked for{left_out})")
    return found.files, found.skipped


def _class_of(file: Path, folder: Path) -> str:
    """Give the first subfolder that a file lies in, or an empty name."""
    return file.relative_to(folder).parts[0] if file.parent != folder else ""


def _by_class(names: list[str]) -> str:
    counts = Counter(name or "outside of class folders" for name in names)
    if len(counts) == 1:
        return ""
    if len(counts) <= NUM_NAMED:
        return f" ({counted(counts)})"
    return f" ({len(counts):,} classes of {min(counts.values()):,} to {max(counts.values()):,})"


def _spread(num: int) -> list[int]:
    """Give indices of at most ``NUM_LOOKED`` of ``num`` images, evenly spaced."""
    return np.linspace(0, num - 1, min(num, NUM_LOOKED)).round().astype(int).tolist()


class _Reader:
    """Reader of files, or of their pixels once these are in the cache."""

    def __init__(self, files: list[Path], shape: tuple[int, int, int], folder: Path) -> None:
        self.files, self.shape, self.folder = files, shape, folder
        self.kept: Pixels | None = None

    @property
    def names(self) -> list[str]:
        """The names of the files in their folder, the same wherever it lies."""
        return [path.relative_to(self.folder).as_posix() for path in self.files]

    def __call__(self, index: int) -> Tensor:
        return self.decode(index) if self.kept is None else self.kept[index]

    def decode(self, index: int, notes: list[str] | None = None) -> Tensor:
        """Read an image from its file, uint8 ``(C, H, W)``; ``notes`` receives what had to be done to show it."""
        return read_image(self.files[index], self.shape[0], self.shape[1:], notes)

    def fingerprint(self, indices: Iterable[int]) -> str:
        return files_fingerprint((self.files[i] for i in indices), self.shape)

    def identity(self, indices: Iterable[int]) -> str:
        digest, files = hashlib.sha256(repr(tuple(self.shape)).encode()), [self.files[i] for i in indices]
        for path in files:
            name = path.relative_to(self.folder).as_posix()
            digest.update(f"{name}\0{path.stat().st_size}\0".encode(errors="surrogatepass"))
        # Other images may have the same names and sizes, such as bitmaps: a few are looked into, all would take long.
        for path in files[:: max(1, len(files) // 256)]:
            with path.open("rb") as file:
                digest.update(file.read(2**16))
        return digest.hexdigest()


def files_fingerprint(files: Iterable[Path], shape: tuple[int, ...]) -> str:
    """Hash the names, sizes and times of files, without reading them, and the shape that their images are given."""
    digest = hashlib.sha256(f"{tuple(shape)}, {READ_AS}".encode())
    for path in files:
        status = path.stat()
        # A name need not be UTF-8.
        digest.update(os.fsencode(f"{path.absolute()} {status.st_size} {status.st_mtime_ns}\n"))
    return digest.hexdigest()
