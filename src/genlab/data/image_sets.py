"""Sets of images to compare with each other: a split of a data set, a folder of files, or an array."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from genlab.data.examples import Split
from genlab.data.folders import counted
from genlab.data.image_folder import files_fingerprint, images_in
from genlab.data.images import ImageDataModule
from genlab.data.module import DataModule
from genlab.data.picture_files import READ_AS, is_grey, read_image
from genlab.errors import InputError
from genlab.modalities.binary import Binary
from genlab.pictures.files import read_array


class ImageSet(Protocol):
    """Images of one shape, read batch by batch in an order that never changes.

    Attributes:
        name: name of the set in the protocol of a measurement.
        shape: shape ``(C, H, W)`` of an image.
        fingerprint: hash that changes whenever the images change.
        facts: further facts about the images that the protocol must record.
        found: what was found and what was left out, in one line; empty if there is nothing to say.
    """

    @property
    def name(self) -> str: ...

    @property
    def shape(self) -> tuple[int, ...]: ...

    @property
    def facts(self) -> dict[str, object]: ...

    @property
    def found(self) -> str: ...

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
        self.facts: dict[str, object] = {**data.protocol}
        if (found := data.sha256(split)) is not None:
            self.facts["reference_sha256"] = found
        self.found = ""

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
        size: ``(H, W)`` that images are cropped and resized to, as :class:`~genlab.data.image_folder.ImageFolder` does
            for training; None if they are all of one size.

    Raises:
        InputError: if there is no such folder, or no image in it.
    """

    batch_size = 200

    def __init__(self, path: str, grey: bool, size: tuple[int, int] | None = None) -> None:
        folder = Path(path).expanduser()
        if not folder.is_dir():
            raise InputError(f"there is no folder {path}")
        self.files, left_out = images_in(folder)
        self.left_out, self.notes = left_out, Counter[str]()
        self.size = size
        self.shape: tuple[int, ...] = tuple(read_image(self.files[0], 1 if grey else 3, size).shape)
        self.name = str(path)
        resized = "" if size is None else f"; cropped and resized to {size[1]}x{size[0]} as for training, by Lanczos"
        self.facts: dict[str, object] = {"pictures": READ_AS + resized}

    def __len__(self) -> int:
        return len(self.files)

    def __iter__(self) -> Iterator[Tensor]:
        from concurrent.futures import ThreadPoolExecutor

        notes: list[str] = []
        # Threads pay: Pillow releases the interpreter's lock while it decodes.
        with ThreadPoolExecutor() as pool:
            for first in range(0, len(self.files), self.batch_size):
                files = self.files[first : first + self.batch_size]
                yield torch.stack(list(pool.map(lambda file: self._read(file, notes), files)))
        self.notes = Counter(notes)

    @property
    def found(self) -> str:
        """What was found, what was done to the pictures as far as they are read, and what was left out."""
        parts = [f"{self.name}: {len(self.files):,} images"]
        parts += [counted(self.notes)] if self.notes else []
        parts += [f"left out: {counted(self.left_out)}"] if self.left_out else []
        return "; ".join(parts)

    def features_view(self, examples: Tensor) -> Tensor:
        """Give the images as they are: uint8."""
        return examples

    def _read(self, path: Path, notes: list[str]) -> Tensor:
        image = read_image(path, self.shape[0], self.size, done=notes)
        if image.shape != self.shape:
            raise InputError(
                f"{path} is {image.shape[2]}x{image.shape[1]} and {self.files[0]} is {self.shape[2]}x{self.shape[1]}: "
                "the images of a folder must be of one size (shape=[3,64,64] resizes them as for training)"
            )
        return image

    @property
    def fingerprint(self) -> str:
        return files_fingerprint(self.files, self.shape)


class ArrayImages:
    """Images of a ``.npy`` file with a uint8 array ``(N, C, H, W)``, as ``genlab sample`` writes it.

    Args:
        path: path of the file.
        grey: whether grey images (C = 1) stay grey; otherwise they get three equal channels.

    Raises:
        InputError: if the file cannot be read, or does not hold grey or colour images in this form.
    """

    batch_size = 500

    def __init__(self, path: str, grey: bool = True) -> None:
        images = read_array(Path(path).expanduser())
        _check_images(path, images)
        self.images = torch.from_numpy(images)
        channels = images.shape[1] if grey else 3
        self.shape: tuple[int, ...] = (channels, *images.shape[2:])
        self.name = str(path)
        self.facts: dict[str, object] = {}
        self.found = ""

    def __len__(self) -> int:
        return len(self.images)

    def __iter__(self) -> Iterator[Tensor]:
        return (part.expand(-1, *self.shape) for part in self.images.split(self.batch_size))

    def features_view(self, examples: Tensor) -> Tensor:
        """Give the images as they are: uint8."""
        return examples

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(repr(self.shape).encode() + self.images.numpy().tobytes()).hexdigest()


def _check_images(path: str, images: np.ndarray) -> None:
    shape, wanted = list(images.shape), "expected images as uint8 (N, C, H, W), C = 1 for grey or 3 for colour"
    if images.dtype != np.uint8:
        scaled = {"f": "round(255 x) if they are in [0, 1]", "u": "255 x / highest value"}.get(images.dtype.kind)
        hint = f"; convert them, as by {scaled}" if scaled else ""
        raise InputError(f"{path}: {wanted}, and found {images.dtype} {shape}{hint}")
    if images.size == 0 or images.ndim != 4:
        hint = "; reshape it to (N, 1, H, W) if these are grey images" if images.ndim == 3 and images.size else ""
        raise InputError(f"{path}: {wanted}, and found {images.dtype} {shape}{hint}")
    if images.shape[1] not in (1, 3):
        last = images.shape[3] in (1, 3, 4)
        hint = "give (N, C, H, W), as array.transpose(0, 3, 1, 2) does" if last else "give (N, C, H, W)"
        raise InputError(f"{path}: {wanted}, and found {shape}: {hint}")


def open_pair(real: str, fake: str, shape: tuple[int, int, int] | None = None) -> tuple[ImageSet, ImageSet]:
    """Open two folders (or ``.npy`` arrays) of images to compare; if one has colour, both are read in colour.

    Args:
        real: path of the real images.
        fake: path of the generated images.
        shape: shape ``(C, H, W)`` in which pictures are read as for training; None for their own size.

    Raises:
        InputError: if a path is missing or unreadable, has no images, or has images of more than one size, or an array
            is not of the shape.
    """
    if shape is not None and (shape[0] not in (1, 3) or min(shape) < 1):
        raise InputError(f"shape={list(shape)}: channels (1 or 3), height and width of an image")
    grey = all(_is_grey(path) for path in (real, fake)) if shape is None else shape[0] == 1
    return _open(real, grey, shape), _open(fake, grey, shape)


def _open(path: str, grey: bool, shape: tuple[int, int, int] | None) -> ImageSet:
    if not path.endswith(".npy"):
        return FolderImages(path, grey, None if shape is None else shape[1:])
    images = ArrayImages(path, grey)
    if shape is not None and images.shape != tuple(shape):
        raise InputError(
            f"{path} has images of shape {list(images.shape)}, not shape={list(shape)}: arrays stay as they are"
        )
    return images


def _is_grey(path: str) -> bool:
    if path.endswith(".npy"):
        return ArrayImages(path).shape[0] == 1
    return all(map(is_grey, FolderImages(path, grey=True).files))
