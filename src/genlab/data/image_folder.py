"""Any folder of images, of any size, with or without one subfolder per class."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from genlab.data.examples import Examples, Split
from genlab.errors import InputError

SUFFIXES = {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SPLIT_FOLDERS: tuple[Split, ...] = ("train", "val", "test")


class ImageFolder:
    """Source of the images in a folder, searched recursively.

    If ``path/train`` exists, ``path/{train,val,test}`` are the splits. Inside a split (or ``path``), the first
    subfolder an image lies in is its class; classes are numbered in alphabetical order. Images of another size are
    cropped at the centre to the aspect ratio and resized (Lanczos); they are converted to grey or colour as ``shape``
    requires.

    Args:
        path: path of the folder.
        shape: shape ``(C, H, W)`` of the resulting images; C is 1 or 3.
        memory_limit_gb: size in GiB above which the images stay on disk and are read by workers.

    Raises:
        InputError: if ``shape`` has neither 1 nor 3 channels.
    """

    def __init__(self, path: str, shape: tuple[int, int, int], memory_limit_gb: float = 4.0) -> None:
        if shape[0] not in (1, 3):
            raise InputError(f"an image folder gives grey (1) or colour (3) images, not {shape[0]} channels")
        self.path, self.shape, self.memory_limit_gb = Path(path).expanduser(), shape, memory_limit_gb

    def load(self) -> dict[Split, Examples]:
        if not self.path.is_dir():
            raise InputError(f"there is no folder {self.path}: give a folder of images as dataset.source.path=...")
        folders: dict[Split, Path] = {"train": self.path}
        if (self.path / "train").is_dir():
            folders = {split: self.path / split for split in SPLIT_FOLDERS if (self.path / split).is_dir()}
        classes: list[str] | None = None
        splits: dict[Split, Examples] = {}
        for split, folder in folders.items():
            files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not files:
                raise InputError(f"there are no images in {folder} ({', '.join(sorted(SUFFIXES))} are looked for)")
            names = [p.relative_to(folder).parts[0] if p.parent != folder else "" for p in files]
            classes = classes or sorted(set(names))
            if unknown := set(names) - set(classes):
                raise InputError(f"{folder} has the class '{min(unknown)}', which the training images do not have")
            labels = torch.tensor([classes.index(name) for name in names])
            splits[split] = self._examples(_Reader(files, self.shape), labels)
        return splits

    def _examples(self, read: "_Reader", labels: Tensor) -> Examples:
        size = len(labels) * int(np.prod(self.shape))
        if size > self.memory_limit_gb * 2**30:
            return Examples(None, labels, read)
        from concurrent.futures import ThreadPoolExecutor

        # Threads pay: Pillow releases the interpreter's lock while it decodes.
        with ThreadPoolExecutor() as pool:
            return Examples(torch.stack(list(pool.map(read, range(len(labels))))), labels)


class _Reader:
    def __init__(self, files: list[Path], shape: tuple[int, int, int]) -> None:
        self.files, self.shape = files, shape

    def __call__(self, index: int) -> Tensor:
        return read_image(self.files[index], self.shape[0], self.shape[1:])

    def fingerprint(self, indices: Iterable[int]) -> str:
        return files_fingerprint((self.files[i] for i in indices), self.shape)


def files_fingerprint(files: Iterable[Path], shape: tuple[int, ...]) -> str:
    """Hash the names, sizes and times of files, without reading them, and the shape that their images are given."""
    digest = hashlib.sha256(repr(tuple(shape)).encode())
    for path in files:
        status = path.stat()
        digest.update(f"{path.absolute()} {status.st_size} {status.st_mtime_ns}\n".encode())
    return digest.hexdigest()


def read_image(path: Path, channels: int, size: tuple[int, int] | None = None) -> Tensor:
    """Read an image file as uint8 ``(C, H, W)``.

    Args:
        path: path of the file.
        channels: number of channels C: 1 for grey, 3 for colour.
        size: ``(H, W)`` to crop and resize the image to; ``None`` keeps its size.

    Raises:
        InputError: if the file is not a readable image.
    """
    try:
        with Image.open(path) as file:
            image = file.convert("L" if channels == 1 else "RGB")
            if size is not None and image.size != size[::-1]:
                image = ImageOps.fit(image, size[::-1], Image.Resampling.LANCZOS)
            pixels = np.array(image)
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InputError(f"{path} cannot be read as an image ({error}): repair it or take it away") from error
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], channels).permute(2, 0, 1).contiguous()
