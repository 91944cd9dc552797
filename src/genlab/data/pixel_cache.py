"""Decoded pictures of a folder, kept in a file that is mapped into memory, so that each is decoded once.

The file is named after a hash of the pictures' names, sizes and times and of the shape that they are given: pictures
that change are decoded again. Reading is left to the system, which keeps in memory what there is room for.
"""

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.data.damaged import Damaged
from genlab.data.folders import say
from genlab.machine.files import discard, new_beside, write_atomically
from genlab.machine.progress import with_progress

CHUNK = 2**24  # bytes that are decoded, or copied, at once
Read = Callable[[int, list[str]], Tensor]


class Pixels:
    """Images ``(N, C, H, W)`` of uint8 in a file, which is mapped when it is first used in a process.

    Args:
        path: path of the file, as NumPy writes arrays.
        notes: what had to be done to show the images, counted.
    """

    def __init__(self, path: Path, notes: Counter[str]) -> None:
        self.path, self.notes = path, notes
        self._mapped: np.memmap | None = None

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_mapped": None}  # a worker maps the file for itself

    @property
    def mapped(self) -> np.memmap:
        if self._mapped is None:
            # Copy on write, because tensors of arrays that cannot be written to are warned of.
            self._mapped = np.load(self.path, mmap_mode="c")
        return self._mapped

    def __len__(self) -> int:
        return len(self.mapped)

    def __getitem__(self, index: int) -> Tensor:
        return torch.from_numpy(np.array(self.mapped[index]))

    def take(self, index: Tensor) -> Tensor:
        """Copy the images at int64 ``index`` ``(B,)`` into memory, part by part; the system may forget the parts."""
        found = torch.empty(len(index), *self.mapped.shape[1:], dtype=torch.uint8)
        rows = max(1, CHUNK // max(1, found[:1].numel()))
        for first in range(0, len(index), rows):
            part = slice(first, first + rows)
            found[part] = torch.from_numpy(self.mapped[index[part].numpy()])
            if len(index) > rows:  # and not after every batch
                self.forget()
        return found

    def forget(self) -> None:
        """Let the system take back the memory of the mapped pages, which it reads again if they are needed."""
        mapping = getattr(self.mapped, "_mmap", None)
        if mapping is not None and hasattr(mapping, "madvise"):
            import mmap

            mapping.madvise(mmap.MADV_DONTNEED)


def pixels_of(read: Read, num: int, shape: tuple[int, ...], key: str, cache: Path) -> Pixels | None:
    """Find the decoded pictures in the cache, or decode them into it.

    Args:
        read: function from an index and a list, which receives what was done, to an image, uint8 ``(C, H, W)``.
        num: number of images.
        shape: shape ``(C, H, W)`` of an image.
        key: hash of the pictures and of the shape.
        cache: folder of the cache, which is made if it is missing.

    Returns:
        The images; None if the disk has no room for them, or the folder cannot be written to, which is said.

    Raises:
        InputError: if a picture cannot be read.
    """
    path = cache / f"pictures-{key[:32]}.npy"
    facts = path.with_suffix(".json")
    try:
        notes = json.loads(facts.read_text(encoding="utf-8"))["notes"]
        if np.load(path, mmap_mode="r").shape == (num, *shape):
            return Pixels(path, Counter(notes))
    except (OSError, ValueError, KeyError, TypeError):
        pass  # there is none, or it is damaged: made anew
    done: list[str] = []
    new = None
    try:
        cache.mkdir(parents=True, exist_ok=True)
        if shutil.disk_usage(cache).free < 1.1 * (size := num * int(np.prod(shape))):
            raise OSError(f"the disk has no room for {size / 2**30:.1f} GiB")
        new = new_beside(path)
        with new.open("wb") as file:
            np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": (num, *shape)})
            for part in decoded(read, num, shape, done):
                file.write(part.data)
            file.flush()
            os.fsync(file.fileno())
        write_atomically(facts, json.dumps({"notes": Counter(done)}))
        os.replace(new, path)
    except BaseException as error:
        if new is not None:
            discard(new)
        if not isinstance(error, OSError):
            raise
        say(f"pictures are decoded at every start, because {cache} cannot keep them ({error.strerror or error})")
        return None
    return Pixels(path, Counter(done))


def decoded(read: Read, num: int, shape: tuple[int, ...], done: list[str]) -> Iterator[np.ndarray]:
    """Decode images in their order, in threads, and give them part by part as arrays ``(B, C, H, W)``.

    Args:
        read: function from an index and a list, which receives what was done, to an image.
        num: number of images.
        shape: shape of an image.
        done: list that receives what was done.

    Raises:
        InputError: after all images were tried, if some of them cannot be read; it names them.
    """
    rows = max(1, CHUNK // max(1, int(np.prod(shape))))
    # Threads pay: Pillow releases the interpreter's lock while it decodes.
    damaged = Damaged()
    with damaged, ThreadPoolExecutor() as pool, with_progress("pictures", num) as advance:
        for first in range(0, num, rows):
            part = np.empty((min(rows, num - first), *shape), dtype=np.uint8)

            def fill(i: int, part: np.ndarray = part, first: int = first) -> None:
                with damaged.noted():
                    part[i] = read(first + i, done).numpy()
                advance(1)

            list(pool.map(fill, range(len(part))))
            if not damaged:
                yield part
