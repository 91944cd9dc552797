"""Any folder of images, of any size, with or without one subfolder per class."""

import hashlib
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from genlab.data.examples import Examples, Split
from genlab.data.folders import counted, find_files, subfolders
from genlab.data.picture_files import READ_AS, read_image, suffixes
from genlab.data.picture_source import SPLIT_NAMES, PictureReader, PictureSource, by_class, done_to
from genlab.errors import InputError

PACKED = {".tar": "webdataset", ".parquet": "parquet"}  # files of many pictures, and the data sets that read them


class ImageFolder(PictureSource):
    """Source of the images in a folder, searched recursively.

    If ``path/train`` exists, ``path/{train,val,test}`` are the splits; ``training``, ``valid``, ``validation``,
    ``dev`` and ``testing`` are read alike, in capitals or not. Inside a split (or ``path``), the first subfolder an
    image lies in is its class; classes are numbered in alphabetical order. Links to folders are followed; hidden files
    and folders are left out, and counted.

    Pictures, arguments and errors are those of :class:`~genlab.data.picture_source.PictureSource`.
    """

    def load(self) -> dict[Split, Examples]:
        classes: list[str] | None = None
        splits: dict[Split, Examples] = {}
        counts: list[str] = []
        notes: list[str] = []
        empty: list[str] = []
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
            splits[split] = self.examples(read, labels, notes)
            counts.append(f"{split} {len(files):,} images{by_class(names)}")
            left_out += skipped
            empty += [str(sub.relative_to(self.path)) for sub in subfolders(folder) if sub.name not in names]
        if folders["train"] == self.path:
            counts = [counts[0].removeprefix("train ")]
        parts = [", ".join(counts), done_to(splits, notes)]
        parts += [f"left out: {counted(left_out)}"] if left_out else []
        parts += [f"no images in {', '.join(empty)}"] if empty else []
        self.found = f"{self.path}: " + "; ".join(part for part in parts if part)
        return splits

    def class_names(self) -> list[str]:
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


def images_in(folder: Path) -> tuple[list[Path], Counter[str]]:
    """List the image files below a folder, sorted, and count what was left out by reason.

    Raises:
        InputError: if there is no image.
    """
    found = find_files(folder, suffixes())
    if not found.files:
        left_out = f"; left out: {counted(found.skipped)}" if found.skipped else ""
        if packed := next((name for suffix, name in PACKED.items() if suffix in found.skipped), None):
            left_out += f"; those are read by dataset={packed}"
        raise InputError(f"there are no images in {folder} ({', '.join(sorted(suffixes()))} are looked for{left_out})")
    return found.files, found.skipped


def _class_of(file: Path, folder: Path) -> str:
    """Give the first subfolder that a file lies in, or an empty name."""
    return file.relative_to(folder).parts[0] if file.parent != folder else ""


class _Reader(PictureReader):
    """Reader of the files of a split."""

    def __init__(self, files: list[Path], shape: tuple[int, int, int], folder: Path) -> None:
        self.files, self.shape, self.folder = files, shape, folder

    @property
    def names(self) -> list[str]:
        return [path.relative_to(self.folder).as_posix() for path in self.files]

    def decode(self, index: int, notes: list[str] | None = None) -> Tensor:
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
