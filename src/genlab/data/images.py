"""The DataModule of images: conversion of grey levels to floats, flips and dynamic binarization."""

import math
import sys
from typing import Any, Literal

import torch
from torch import Tensor

from genlab.data.checks import probe
from genlab.data.examples import Examples, Source, Split
from genlab.data.folders import say
from genlab.data.image_folder import ImageFolder
from genlab.data.module import SPLITS, DataModule
from genlab.data.picture_files import READ_AS
from genlab.distributions.noise import indexed_uniform, mix
from genlab.errors import InputError
from genlab.modalities.binary import Binary
from genlab.modalities.image import Image


class ImageDataModule(DataModule):
    """Data set of images: batches are float in [0, 1], ``(B, C, H, W)``; the data is stored as uint8.

    Args:
        source: source of the images.
        name: name of the data set.
        shape: shape ``(C, H, W)`` of an image.
        kind: ``"image"`` for grey levels; ``"binary"`` for bits. If grey levels are stored, each pixel is then drawn as
            a Bernoulli variable whose probability is the grey level, anew in each epoch of training.
        levels: number of grey levels that the models see; 2 for binary data.
        source_levels: number of grey levels of the stored images; ``None`` for ``levels``.
        flip: whether to mirror a random half of the training images.
        **options: arguments of :class:`~genlab.data.module.DataModule`.

    Raises:
        InputError: if ``kind`` and ``levels`` contradict each other.
    """

    levels: int

    def __init__(
        self,
        source: Source,
        name: str,
        shape: tuple[int, int, int],
        kind: Literal["image", "binary"] = "image",
        levels: int = 256,
        source_levels: int | None = None,
        flip: bool = False,
        **options: Any,
    ) -> None:
        if (kind == "binary") != (levels == 2):
            raise InputError(f"dataset {name}: kind={kind} with levels={levels}; binary data has 2 levels")
        self._modality = Binary() if kind == "binary" else Image()
        super().__init__(source, name, shape, levels=levels, **options)
        self.source_levels = source_levels or levels
        self.flip = flip

    @property
    def modality(self) -> Image:
        return self._modality

    @property
    def protocol(self) -> dict[str, object]:
        protocol = super().protocol
        if isinstance(self.modality, Binary):
            drawn = f"train: redrawn each epoch; val, test: one draw, seed {self.eval_seed}"
            protocol["binarization"] = drawn if self.source_levels > 2 else "stored as bits"
        if isinstance(self.source, ImageFolder):
            protocol["pictures"] = READ_AS
        return protocol

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        if isinstance(self.source, ImageFolder):
            say(self.source.found)

    def check(self, split: Split, examples: Examples) -> None:
        stored = probe(str(self.name), split, examples)
        whole = stored if examples.images is None else examples.images
        if stored.shape[1:] != torch.Size(self.shape):
            raise InputError(
                f"dataset {self.name}: shape={list(self.shape)} is stated, the {split} images are "
                f"{list(stored.shape[1:])}; set dataset.shape to that"
            )
        if whole.dtype != torch.uint8:
            raise InputError(f"dataset {self.name}: {split} images are {_advice(whole, self.source_levels)}")
        if (highest := int(whole.max())) >= self.source_levels:
            raise InputError(
                f"dataset {self.name}: {self.source_levels} levels are stated, {split} has the value {highest}"
            )
        if split == "train" and highest <= 1 and self.source_levels > 2:
            print(
                f"genlab: dataset {self.name}: the highest of {self.source_levels} grey levels in train is {highest}: "
                "all images are nearly black; were they in [0, 1]? Then store (255 * x).round().to(torch.uint8)",
                file=sys.stderr,
            )

    def transform(self, split: Split, augment: bool = True) -> "ToModel":
        train = split == "train"
        return ToModel(
            self.source_levels,
            flip=self.flip and train and augment,
            binarize=isinstance(self.modality, Binary) and self.source_levels > 2,
            # A random stream for each split, so that no test image shares its draws with a training image.
            seed=mix(self.seed if train and augment else self.eval_seed, SPLITS.index(split)),
        )


class ToModel:
    """Transform from uint8 grey levels to the floats in [0, 1] that models see, with optional flips and binarization.

    Args:
        levels: number of grey levels of the stored images.
        flip: whether to mirror a random half of the images.
        binarize: whether to draw each pixel as a Bernoulli variable whose probability is the grey level.
        seed: random seed of the flips and the binarization.
    """

    def __init__(self, levels: int, *, flip: bool, binarize: bool, seed: int) -> None:
        self.levels, self.flip, self.binarize, self.seed = levels, flip, binarize, seed

    def __call__(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        x = images.float() / (self.levels - 1)
        if not self.flip and not self.binarize:
            return x
        num = x[0].numel()
        u = indexed_uniform(index, num + 1, seed=self.seed, epoch=epoch)
        if self.flip:
            x = torch.where((u[:, -1] < 0.5).view(-1, 1, 1, 1), x.flip(-1), x)
        if self.binarize:
            x = (u[:, :num].view_as(x) < x).float()
        return x


def _advice(images: Tensor, levels: int) -> str:
    """Say what images of another type than uint8 are, and how to store them."""
    top = levels - 1
    expected = f"and uint8 grey levels from 0 to {top} are expected"
    found = str(images.dtype).removeprefix("torch.")
    if images.is_complex():
        return f"{found}, {expected}"
    low, high = float(images.min()), float(images.max())
    if not math.isfinite(high - low):
        return f"{found} and not all finite numbers, {expected}"
    found = f"{found} from {low:g} to {high:g}, {expected}"
    if images.dtype == torch.bool:
        return f"{found}: store ({top} * x).to(torch.uint8)"
    if images.is_floating_point() and low >= 0 and high <= 1:
        return f"{found}: store ({top} * x).round().to(torch.uint8)"
    if images.is_floating_point() and low >= -1 and high <= 1:
        return f"{found}: store ({top} * (x + 1) / 2).round().to(torch.uint8)"
    if low >= 0 and high <= top:
        return f"{found}: store x.{'round().' if images.is_floating_point() else ''}to(torch.uint8)"
    return f"{found}: scale them to that range and store x.to(torch.uint8)"
