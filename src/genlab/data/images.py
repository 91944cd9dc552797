"""The DataModule of images: conversion of grey levels to floats, flips and dynamic binarization."""

import math
import sys
from typing import Any, Literal

import torch
from torch import Tensor

from genlab.data.checks import probe
from genlab.data.examples import Examples, Source, Split
from genlab.data.folders import say
from genlab.data.module import SPLITS, DataModule
from genlab.data.picture_files import READ_AS
from genlab.data.picture_source import PictureSource
from genlab.distributions.noise import indexed_uniform, mix
from genlab.errors import InputError
from genlab.modalities.binary import Binary
from genlab.modalities.image import Image

SHIFTS = 1  # beside the seed of a split, that of its shifts


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
        shift: largest shift of the training images as a share of their sides, between 0 and 1; None for none. Each
            image is moved along each side by a uniform amount, see ``shifted``.
        **options: arguments of :class:`~genlab.data.module.DataModule`.

    Raises:
        InputError: if ``kind`` and ``levels`` contradict each other, or ``shift`` is out of its range.
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
        shift: float | None = None,
        **options: Any,
    ) -> None:
        if (kind == "binary") != (levels == 2):
            raise InputError(f"dataset {name}: kind={kind} with levels={levels}; binary data has 2 levels")
        if shift is not None and not 0 < shift < 1:
            raise InputError(f"dataset {name}: shift={shift}: a share of the side, above 0 and below 1, or null")
        if shift is not None and (source_levels or levels) == 2:
            raise InputError(f"dataset {name}: shift={shift}: interpolates grey levels, and the data is stored as bits")
        self._modality = Binary() if kind == "binary" else Image()
        super().__init__(source, name, shape, levels=levels, **options)
        self.source_levels = source_levels or levels
        self.flip, self.shift = flip, shift

    @property
    def modality(self) -> Image:
        return self._modality

    @property
    def protocol(self) -> dict[str, object]:
        protocol = super().protocol
        if isinstance(self.modality, Binary):
            drawn = f"train: redrawn each epoch; val, test: one draw, seed {self.eval_seed}"
            protocol["binarization"] = drawn if self.source_levels > 2 else "stored as bits"
        if isinstance(self.source, PictureSource):
            protocol["pictures"] = READ_AS
        return protocol

    def setup(self, stage: str | None = None) -> None:
        super().setup(stage)
        if isinstance(self.source, PictureSource):
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
            shift=self.shift if train and augment else None,
            binarize=isinstance(self.modality, Binary) and self.source_levels > 2,
            # A random stream for each split, so that no test image shares its draws with a training image.
            seed=mix(self.seed if train and augment else self.eval_seed, SPLITS.index(split)),
        )


class ToModel:
    """Transform from uint8 grey levels to the floats in [0, 1] that models see; may flip, shift and binarize.

    Args:
        levels: number of grey levels of the stored images.
        flip: whether to mirror a random half of the images.
        binarize: whether to draw each pixel as a Bernoulli variable whose probability is the grey level.
        seed: random seed of the flips, the shifts and the binarization.
        shift: largest shift as a share of the sides; None for none.
    """

    def __init__(self, levels: int, *, flip: bool, binarize: bool, seed: int, shift: float | None = None) -> None:
        self.levels, self.flip, self.binarize, self.seed, self.shift = levels, flip, binarize, seed, shift

    def __call__(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        if self.shift is not None:
            # Another seed than that of the flips, whose draws stay as they are with shifts and without.
            u = indexed_uniform(index, 2, seed=mix(self.seed, SHIFTS), epoch=epoch)
            sides = u.new_tensor(images.shape[-2:])
            images = shifted(images.float(), (2 * u - 1) * self.shift * sides).floor()
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


def shifted(images: Tensor, by: Tensor) -> Tensor:
    """Move images ``(B, C, H, W)`` down and to the right by ``by``, ``(B, 2)``, in pixels and parts of them.

    Between two pixels the values are interpolated linearly; beyond an edge, its pixels go on.
    """
    for side, amount in ((2, by[:, 0]), (3, by[:, 1])):
        length = images.shape[side]
        at = (torch.arange(length, device=images.device) - amount[:, None]).clamp(0, length - 1)  # (B, length)
        shape = [-1, 1, 1, 1]
        shape[side] = length
        low = at.floor()
        part = (at - low).view(shape)
        pixels = [
            images.gather(side, i.long().view(shape).expand_as(images)) for i in (low, (low + 1).clamp_max(length - 1))
        ]
        images = pixels[0] + part * (pixels[1] - pixels[0])
    return images


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
