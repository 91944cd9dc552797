"""Sets of images to compare with each other: a split of a data set, a folder of files, or an array."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genlab.data.examples import Split
from genlab.data.image_folder import SUFFIXES, files_fingerprint, read_image
from genlab.data.images import ImageDataModule
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.modalities.binary import Binary


class ImageSet(Protocol):
    """Images of one shape, read batch by batch in an order that never changes.

    Attributes:
        name: name of the set in the protocol of a measurement.
        shape: shape ``(C, H, W)`` of an image.
        fingerprint: hash that changes whenever the images change.
        facts: further facts about the images that the protocol must record.
    """

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def facts(self) -> dict[str, object]: ...

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[Tensor]: ...

    def features_view(self, examples: Tensor) -> Tensor: ...

    @property
    def fingerprint(self) -> str: ...


class SplitImages:
    """Images of a split as models see them: float in [0, 1], unaugmented; binary data is binarized by a fixed draw."""

    def __init__(self, data: DataModule, split: Split) -> None:
        data.setup()
        self.data, self.split = data, split
        self.name: str = split
        self.shape: tuple[int, ...] = data.shape
        self.facts = data.protocol

    def __len__(self) -> int:
        return len(self.data.splits[self.split])

    def __iter__(self) -> Iterator[Tensor]:
        return (x for x, _ in self.data.batches(self.split, augment=False))

    def features_view(self, examples: Tensor) -> Tensor:
        """Convert examples to the images that a feature extractor sees."""
        return self.data.modality.features_view(examples)

    @property
    def fingerprint(self) -> str:
        digest = hashlib.sha256(self.data.splits[self.split].fingerprint().encode())
        drawn = self.data.eval_seed if isinstance(self.data.modality, Binary) else None
        levels = self.data.source_levels if isinstance(self.data, ImageDataModule) else None
        digest.update(repr((levels, self.data.kind, drawn)).encode())
        return digest.hexdigest()


class FolderImages:
    """All image files below a folder, sorted by name, as uint8 images of one size.

    Args:
        path: path of the folder.
        grey: whether to read the images as grey (C = 1) instead of colour (C = 3).
    """

    batch_size = 200

    def __init__(self, path: str, grey: bool) -> None:
        self.files = image_files(path)
        width, height = _size(self.files[0])
        self.shape: tuple[int, ...] = (1 if grey else 3, height, width)
        self.name = str(path)
        self.facts: dict[str, object] = {}

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        from concurrent.futures import ThreadPoolExecutor

        # Threads pay: Pillow releases the interpreter's lock while it decodes.
        with ThreadPoolExecutor() as pool:
            for first in range(0, len(self.files), self.batch_size):
                yield torch.stack(list(pool.map(self._read, self.files[first : first + self.batch_size])))

    def features_view(self, examples: Tensor) -> Tensor:
        """Give the images as they are: uint8."""
        return examples

    def _read(self, path: Path) -> Tensor:
        image = read_image(path, self.shape[0])
        if image.shape != self.shape:
            raise InputError(
                f"{path} is {image.shape[2]}x{image.shape[1]} and {self.files[0]} is {self.shape[2]}x{self.shape[1]}: "
                "the images of a folder must be of one size"
            )
        return image

    @property
    def fingerprint(self) -> str:
        return files_fingerprint(self.files, self.shape)


class ArrayImages:
    """Images of a ``.npy`` file with a uint8 array ``(N, C, H, W)``, as ``genlab sample`` writes it."""

    batch_size = 500

    def __init__(self, path: str) -> None:
        try:
            images = np.load(path, allow_pickle=False)
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read as a NumPy array ({error})") from error
        if images.dtype != np.uint8 or images.ndim != 4 or len(images) == 0:
            raise InputError(
                f"{path}: expected images as uint8 (N, C, H, W), and found {images.dtype} {list(images.shape)}"
            )
        self.images = torch.from_numpy(images)
        self.shape: tuple[int, ...] = tuple(images.shape[1:])
        self.name = str(path)
        self.facts: dict[str, object] = {}

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        return iter(self.images.split(self.batch_size))

    def features_view(self, examples: Tensor) -> Tensor:
        """Give the images as they are: uint8."""
        return examples

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.shape).encode() + self.images.numpy().tobytes()).hexdigest()


def open_pair(real: str, fake: str) -> tuple[ImageSet, ImageSet]:
    """Open two folders (or ``.npy`` arrays) of images to compare; if one has colour, both are read in colour.

    Args:
        real: path of the real images.
        fake: path of the generated images.

    Raises:
        InputError: if a path is missing or unreadable, has no images, or has images of more than one size.
    """
    grey = all(_is_grey(path) for path in (real, fake))
    return _open(real, grey), _open(fake, grey)


def _open(path: str, grey: bool) -> ImageSet:
    return ArrayImages(path) if path.endswith(".npy") else FolderImages(path, grey)


def _is_grey(path: str) -> bool:
    from PIL import Image

    if path.endswith(".npy"):
        return ArrayImages(path).shape[0] == 1
    for file in image_files(path):
        try:
            with Image.open(file) as image:
                if image.mode not in ("1", "L", "I;16", "LA"):
                    return False
        except OSError:
            continue  # reading the images reports the error
    return True


def _size(path: Path) -> tuple[int, int]:
    return tuple(read_image(path, 1).shape[:0:-1])  # type: ignore[return-value]


def image_files(path: str) -> list[Path]:
    """List the image files below a folder, sorted by name.

    Raises:
        InputError: if there is no such folder, or no image in it.
    """
    folder = Path(path).expanduser()
    if not folder.is_dir():
        raise InputError(f"there is no folder {path}")
    files = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise InputError(f"there are no images in {path} ({', '.join(sorted(SUFFIXES))} are looked for)")
    return files
