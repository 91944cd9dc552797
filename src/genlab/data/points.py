"""The DataModule of points, and mixtures of Gaussians whose modes are known."""

import math
from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from genlab.data.batches import Transform
from genlab.data.examples import Examples, Source, Split
from genlab.data.module import DataModule
from genlab.distributions.noise import mix
from genlab.errors import InputError
from genlab.modalities.points import Points


class PointDataModule(DataModule):
    """Data set of points: batches are float ``(B, D)``, unchanged.

    Args:
        source: source of the points.
        name: name of the data set.
        shape: shape ``(D,)`` of a point.
        kind: name of the modality, for the config.
        levels: always ``None``, because points are real numbers; for the config.
        **options: arguments of :class:`~genlab.data.module.DataModule`.
    """

    stored_as: ClassVar[torch.dtype] = torch.float32

    def __init__(
        self,
        source: Source,
        name: str,
        shape: tuple[int],
        kind: Literal["points"] = "points",
        levels: None = None,
        **options: Any,
    ) -> None:
        super().__init__(source, name, shape, levels=None, **options)

    @property
    def modality(self) -> Points:
        return Points()

    def check(self, split: Split, examples: Examples) -> None:
        points = examples.take(torch.arange(len(examples)))
        if points.dtype != self.stored_as:
            found, expected = (str(dtype).removeprefix("torch.") for dtype in (points.dtype, self.stored_as))
            raise InputError(
                f"dataset {self.name}: {split} points are {found}, and {expected} is expected: store "
                f"x.to(torch.{expected})"
            )
        if points.shape[1:] != torch.Size(self.shape):
            raise InputError(
                f"dataset {self.name}: shape={list(self.shape)} is stated, the {split} points are "
                f"{list(points.shape[1:])}; set dataset.shape to that"
            )
        if not points.isfinite().all():
            raise InputError(f"dataset {self.name}: some {split} points are not numbers")

    def transform(self, split: Split, augment: bool = True) -> Transform:
        return AsTheyAre()


class AsTheyAre:
    """Transform that leaves points unchanged."""

    def __call__(self, points: Tensor, index: Tensor, epoch: int) -> Tensor:
        return points


class DrawnPoints(ABC):
    """Source of points drawn from a density, the same for every run.

    Args:
        num_train: number of training points.
        num_val: number of validation points.
        num_test: number of test points.
        seed: random seed of the points; each split is an independent draw.

    Raises:
        InputError: if a number of points is below 1.
    """

    fixed = True

    def __init__(self, num_train: int = 100_000, num_val: int = 10_000, num_test: int = 10_000, seed: int = 0) -> None:
        if min(num_train, num_val, num_test) < 1:
            raise InputError(f"num_train={num_train}, num_val={num_val}, num_test={num_test}: at least 1 of each")
        self.seed = seed
        self.sizes: dict[Split, int] = {"train": num_train, "val": num_val, "test": num_test}

    @abstractmethod
    def draw(self, num: int, generator: torch.Generator) -> Examples:
        """Draw ``num`` points ``(num, D)`` and their classes."""

    def load(self) -> dict[Split, Examples]:
        return {
            split: self.draw(num, torch.Generator().manual_seed(mix(self.seed, i)))
            for i, (split, num) in enumerate(self.sizes.items())
        }


class GaussianMixture(DrawnPoints):
    """Mixture of equally likely Gaussians; the class of a point is the Gaussian that it was drawn from.

    Args:
        centres: means of the Gaussians, ``(K, D)``.
        std: standard deviation of every Gaussian, in each coordinate.
        **options: arguments of :class:`DrawnPoints`.

    Raises:
        InputError: if ``std`` is not above 0.
    """

    def __init__(self, centres: Tensor, std: float, **options: Any) -> None:
        super().__init__(**options)
        if std <= 0:
            raise InputError(f"std={std}: expected a number above 0")
        self.centres, self.std = centres, std

    @classmethod
    def ring(cls, num: int = 8, radius: float = 1.0, std: float = 0.01, **options: Any) -> "GaussianMixture":
        """Make a mixture of ``num`` Gaussians on a circle."""
        return cls(ring(num, radius), std, **options)

    @classmethod
    def grid(cls, side: int = 5, spacing: float = 2.0, std: float = 0.05, **options: Any) -> "GaussianMixture":
        """Make a mixture of ``side``² Gaussians on a square grid."""
        return cls(grid(side, spacing), std, **options)

    def draw(self, num: int, generator: torch.Generator) -> Examples:
        labels = torch.randint(len(self.centres), (num,), generator=generator)
        noise = torch.randn(num, self.centres.shape[1], generator=generator)
        return Examples(self.centres[labels] + self.std * noise, labels)


def ring(num: int, radius: float) -> Tensor:
    """Give ``num`` evenly spaced points on a circle around 0, ``(num, 2)``, starting at ``(radius, 0)``."""
    angle = 2 * math.pi * torch.arange(num) / num
    return radius * torch.stack([angle.cos(), angle.sin()], 1)


def grid(side: int, spacing: float) -> Tensor:
    """Give the points of a square grid around 0, ``(side², 2)``."""
    line = spacing * (torch.arange(side) - (side - 1) / 2)
    return torch.cartesian_prod(line, line)
