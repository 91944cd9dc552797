"""Pictures that lie together in large files, as on the Hugging Face hub: what the sources of such files share."""

import hashlib
import os
import re
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, Protocol

import torch
from torch import Tensor

from genlab.data import archive_index
from genlab.data.archive_index import Contents, Found, Index
from genlab.data.examples import Examples, Split
from genlab.data.folders import counted, find_files, say
from genlab.data.picture_files import READ_AS, read_image
from genlab.data.picture_source import SPLIT_NAMES, PictureReader, PictureSource, by_class, done_to
from genlab.errors import InputError
from genlab.machine.progress import with_progress

VERSION = 1  # of what the index of archives holds: one of another version is made anew


class Opened(Protocol):
    """Function that reads a picture's file from an archive; a worker gets a copy.

    Its arguments are the path of the archive and where the picture lies there.
    """

    def __call__(self, path: Path, first: int, second: int, /) -> bytes: ...


class PictureArchives(PictureSource):
    """Source of the pictures in the archives of a folder, searched recursively, or in one archive.

    A file whose name contains ``train``, ``val`` or ``test`` (or ``training``, ``valid``, ``validation``, ``dev``,
    ``testing``) as a word belongs to that split, or else the nearest folder with such a name decides. If no file is
    named so, all of them are training data. What the archives hold is listed once and kept in the cache, so that a
    second start reads nothing but the sizes and times of the files.

    Pictures and the other arguments are those of :class:`~genlab.data.picture_source.PictureSource`.

    Args:
        image: which part of an example is the picture; None to find it.
        label: which part of an example is its class; ``"auto"`` to find it, None for no classes.
    """

    suffix: ClassVar[str]
    instead: ClassVar[str]  # what to do if there are no such files

    def __init__(
        self,
        path: str,
        shape: tuple[int, int, int],
        image: str | None = None,
        label: str | None = "auto",
        memory_limit_gb: float = 4.0,
        cache_dir: str | None = None,
    ) -> None:
        super().__init__(path, shape, memory_limit_gb, cache_dir)
        self.image, self.label = image, label

    @abstractmethod
    def contents(self, path: Path) -> Contents:
        """List what an archive holds, without decoding a picture.

        Raises:
            InputError: if the archive is damaged, or holds no pictures that can be told from the rest.
        """

    @abstractmethod
    def opened(self) -> Opened:
        """Give the function that reads pictures from archives."""

    def load(self) -> dict[Split, Examples]:
        files, left_out = self._files()
        found = self._found(files)
        splits: dict[Split, Examples] = {}
        counts, notes = [], list[str]()
        for split, paths in files.items():
            if (index := found.splits.get(split)) is None:
                left_out[f"{split}, which has no labels"] += len(paths)
                continue
            read = _Reader(paths, index, self.shape, self._root, self.opened())
            splits[split] = self.examples(read, torch.from_numpy(index.labels), notes)
            classes = [found.classes[i] for i in index.labels] if found.classes else [""] * len(index.names)
            several = "file" if len(paths) == 1 else "files"
            counts.append(f"{split} {len(index.names):,} images of {len(paths)} {several}{by_class(classes)}")
        parts = [", ".join(counts), done_to(splits, notes)]
        left_out += found.left_out
        parts += [f"left out: {counted(left_out)}"] if left_out else []
        self.found = f"{self.path}: " + "; ".join(part for part in parts if part)
        return splits

    def class_names(self) -> list[str]:
        classes = self._found(self._files()[0]).classes
        return classes if len(classes) > 1 else []

    @property
    def _root(self) -> Path:
        return self.path.parent if self.path.is_file() else self.path

    def _files(self) -> tuple[dict[Split, list[Path]], Counter[str]]:
        """Find the files of each split, and count what lies beside them."""
        if self.path.is_file():
            return {"train": [self.path]}, Counter()
        if not self.path.is_dir():
            raise InputError(
                f"there is no {self.path}: give a folder of {self.suffix} files as dataset.source.path=..."
            )
        found = find_files(self.path, {self.suffix})
        if not found.files:
            others = f"; left out: {counted(found.skipped)}" if found.skipped else ""
            raise InputError(f"there are no {self.suffix} files in {self.path} ({self.instead}{others})")
        of = {path: split_of(path.relative_to(self.path)) for path in found.files}
        if not any(of.values()):
            return {"train": found.files}, found.skipped
        files: dict[Split, list[Path]] = {split: [p for p in found.files if of[p] == split] for split in SPLIT_NAMES}
        if not files["train"]:
            named = next(path for path in found.files if of[path])
            raise InputError(f"{named} is of the split {of[named]}, and no file is of train: name those train-*")
        beside = sum(split is None for split in of.values())
        skipped = found.skipped + Counter({f"{self.suffix} files of no split": beside})
        return {split: paths for split, paths in files.items() if paths}, +skipped

    def _found(self, files: dict[Split, list[Path]]) -> Found:
        """Look up what the archives hold in the cache, or list it."""
        kept = None
        if self.cache is not None:
            digest = hashlib.sha256(repr((VERSION, type(self).__qualname__, self.image, self.label)).encode())
            for split, paths in files.items():
                digest.update(os.fsencode(f"{split}\n{''.join(map(_stamp, paths))}"))
            kept = self.cache / f"index-{digest.hexdigest()[:32]}.npz"
            if (found := archive_index.load(kept)) is not None:
                return found
        found = self._listed(files)
        if kept is not None:
            try:
                kept.parent.mkdir(parents=True, exist_ok=True)
                archive_index.save(kept, found)
            except OSError as error:
                say(
                    f"archives are listed at every start, because {kept.parent} cannot keep the list ({error.strerror})"
                )
        return found

    def _listed(self, files: dict[Split, list[Path]]) -> Found:
        """List what the archives hold, in threads."""
        paths = [path for of_split in files.values() for path in of_split]
        with ThreadPoolExecutor() as pool, with_progress("archives", len(paths)) as advance:

            def contents(path: Path) -> Contents:
                listed = self.contents(path)
                advance(1)
                return listed

            parts = dict(zip(paths, pool.map(contents, paths), strict=True))
        first = parts[paths[0]]
        if other := next((path for path in paths if parts[path].classes != first.classes), None):
            raise InputError(f"{paths[0]} and {other} name unlike classes: keep files of one data set in the folder")
        for split, of_split in files.items():
            if not any(parts[path].names for path in of_split):
                raise InputError(f"{of_split[0]} has no pictures, and the other files of {split} have none")
        known = {label for path in files["train"] for label in parts[path].labels if label is not None}
        mixed = len({type(label) for label in known}) > 1
        classes = first.classes or sorted({str(label) for label in known} if mixed else known)
        splits: dict[str, Index] = {}
        has_classes = True
        for split, of_split in files.items():
            held = [parts[path] for path in of_split]
            labels = [str(label) if mixed and label is not None else label for part in held for label in part.labels]
            names = [f"{path}/{name}" for path in of_split for name in parts[path].names]
            numbers = archive_index.numbered(split, labels, names, classes, first.classes is not None)
            if split == "train":
                has_classes = numbers is not None
            if not has_classes:
                numbers = torch.zeros(len(labels), dtype=torch.long).numpy()
            if numbers is not None:
                splits[split] = archive_index.joined(held, numbers)
        left_out = sum((part.left_out for part in parts.values()), Counter[str]())
        return Found(splits, [str(name) for name in classes] if has_classes else [], left_out)


class _Reader(PictureReader):
    """Reader of the pictures of a split's archives."""

    def __init__(
        self, files: Sequence[Path], index: Index, shape: tuple[int, int, int], root: Path, opened: Opened
    ) -> None:
        self.files, self.index, self.shape, self.root, self.opened = files, index, shape, root, opened

    def _archive(self, number: int) -> str:
        return self.files[number].relative_to(self.root).as_posix()

    @property
    def names(self) -> list[str]:
        archives = [self._archive(i) for i in range(len(self.files))]
        return [f"{archives[i]}/{name}" for i, name in zip(self.index.where[:, 0], self.index.names, strict=True)]

    def decode(self, index: int, notes: list[str] | None = None) -> Tensor:
        number, first, second = self.index.where[index].tolist()
        path = self.files[number]
        content = self.opened(path, first, second)
        return read_image(path / self.index.names[index], self.shape[0], self.shape[1:], notes, content)

    def fingerprint(self, indices: Iterable[int]) -> str:
        digest, chosen = hashlib.sha256(f"{tuple(self.shape)}, {READ_AS}".encode()), list(indices)
        where = self.index.where[chosen]
        for number in sorted(set(where[:, 0].tolist())):
            digest.update(os.fsencode(_stamp(self.files[number])))
        digest.update(where.tobytes())
        return digest.hexdigest()

    def identity(self, indices: Iterable[int]) -> str:
        digest, chosen = hashlib.sha256(repr(tuple(self.shape)).encode()), list(indices)
        numbers = self.index.where[chosen, 0].tolist()
        for i, number in zip(chosen, numbers, strict=True):
            digest.update(os.fsencode(f"{self._archive(number)}/{self.index.names[i]}\0"))
        for number in sorted(set(numbers)):
            digest.update(self.index.digests[number].encode())
        return digest.hexdigest()


def split_of(path: Path) -> Split | None:
    """Tell the split of a file by its name, or else by the nearest folder above it that names one; None if none does.

    Args:
        path: path of the file, from the folder that is read.

    Raises:
        InputError: if a name says that the file is of two splits.
    """
    for name in (path.stem, *reversed(path.parts[:-1])):
        words = set(re.split(r"[^a-z]+", name.lower()))
        splits = [split for split, names in SPLIT_NAMES.items() if words & set(names)]
        if len(splits) > 1:
            raise InputError(f"{path} is named after {splits[0]} and after {splits[1]}: rename it after one split")
        if splits:
            return splits[0]
    return None


def digest_of_ends(path: Path, length: int = 2**16) -> str:
    """Hash the size of a file, its beginning and its end, which most changes of an archive change."""
    digest = hashlib.sha256(str(size := path.stat().st_size).encode())
    with path.open("rb") as file:
        digest.update(file.read(length))
        file.seek(max(0, size - length))
        digest.update(file.read(length))
    return digest.hexdigest()


def _stamp(path: Path) -> str:
    status = path.stat()
    return f"{path.absolute()} {status.st_size} {status.st_mtime_ns}\n"
