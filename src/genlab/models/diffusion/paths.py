"""Paths from noise to data, ``x_t = alpha(t) x + sigma(t) e``, and what a network may predict on them.

Time runs from 0, where there is noise alone, to 1, where there is data: Flow Matching (arXiv:2210.02747). Times are
``(B,)``; what a path gives for them has the same shape.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genlab.errors import InputError


class Path(ABC):
    """A way from noise to data."""

    @abstractmethod
    def alpha(self, t: Tensor) -> Tensor:
        """Give the factor of the data."""

    @abstractmethod
    def sigma(self, t: Tensor) -> Tensor:
        """Give the standard deviation of the noise."""

    def times(self, num_steps: int) -> Tensor:
        """Give the ends of the steps of a solver, float64 ``(num_steps + 1,)``, from 0 to 1."""
        return torch.linspace(0, 1, num_steps + 1, dtype=torch.float64)

    def start(self, strength: float) -> float:
        """Give the time from which a share ``strength``, above 0, of the way is left."""
        return 1 - strength

    def at(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Give the points of the path between noise and data, both ``(B, *S)``."""
        return scaled(self.alpha(t), x) + scaled(self.sigma(t), noise)


class SmoothPath(Path):
    """A path in continuous time, with a velocity."""

    @abstractmethod
    def alpha_slope(self, t: Tensor) -> Tensor:
        """Give the derivative of ``alpha`` by time."""

    @abstractmethod
    def sigma_slope(self, t: Tensor) -> Tensor:
        """Give the derivative of ``sigma`` by time."""

    def velocity(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Give the derivative of :meth:`at` by time."""
        return scaled(self.alpha_slope(t), x) + scaled(self.sigma_slope(t), noise)


class Linear(SmoothPath):
    """The straight line ``x_t = t x + (1 - t) e``, with the velocity ``x - e``.

    Flow Matching for Generative Modeling (arXiv:2210.02747) with sigma_min = 0; rectified flow (arXiv:2209.03003).
    """

    def alpha(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        return 1 - t

    def alpha_slope(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma_slope(self, t: Tensor) -> Tensor:
        return -torch.ones_like(t)


class Cosine(SmoothPath):
    """A quarter of a circle, ``x_t = sin(pi t / 2) x + cos(pi t / 2) e``, which preserves variance.

    Improved Denoising Diffusion Probabilistic Models (arXiv:2102.09672), without its offset.
    """

    def alpha(self, t: Tensor) -> Tensor:
        return torch.sin(math.pi / 2 * t)

    def sigma(self, t: Tensor) -> Tensor:
        return torch.cos(math.pi / 2 * t)

    def alpha_slope(self, t: Tensor) -> Tensor:
        return math.pi / 2 * torch.cos(math.pi / 2 * t)

    def sigma_slope(self, t: Tensor) -> Tensor:
        return -math.pi / 2 * torch.sin(math.pi / 2 * t)


class VarianceExploding(SmoothPath):
    """Data with more and more noise added, ``x_t = x + sigma_max (1 - t) e``: EDM (arXiv:2206.00364).

    Steps of a solver are spaced by the paper's equation 5; the last one goes from ``sigma_min`` to 0.

    Args:
        sigma_min: standard deviation of the noise before the last step.
        sigma_max: standard deviation of the noise at time 0.
        rho: exponent of the spacing; large values make small steps where there is little noise.

    Raises:
        InputError: if an option is out of its range.
    """

    def __init__(self, sigma_min: float = 0.002, sigma_max: float = 80.0, rho: float = 7.0) -> None:
        if not 0 < sigma_min < sigma_max or rho <= 0:
            raise InputError(
                f"sigma_min={sigma_min}, sigma_max={sigma_max}, rho={rho}: expected 0 < sigma_min < sigma_max and "
                "rho above 0"
            )
        self.sigma_min, self.sigma_max, self.rho = sigma_min, sigma_max, rho

    def alpha(self, t: Tensor) -> Tensor:
        return torch.ones_like(t)

    def sigma(self, t: Tensor) -> Tensor:
        return self.sigma_max * (1 - t)

    def alpha_slope(self, t: Tensor) -> Tensor:
        return torch.zeros_like(t)

    def sigma_slope(self, t: Tensor) -> Tensor:
        return torch.full_like(t, -self.sigma_max)

    def times(self, num_steps: int) -> Tensor:
        share = torch.linspace(0, 1, num_steps, dtype=torch.float64) if num_steps > 1 else torch.zeros(1).double()
        first, last = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        sigma = (first + share * (last - first)) ** self.rho
        return torch.cat([1 - sigma / self.sigma_max, torch.ones(1, dtype=torch.float64)])

    def start(self, strength: float) -> float:
        return float(self.times(1000)[round(1000 * (1 - strength))])  # by steps, for levels span many orders


class Prediction(ABC):
    """A quantity that the network of a model predicts; the rest follows from it and the point of the path."""

    # Times are kept this far from the ends where the rest would be divided by 0.
    margin = 0.0

    @abstractmethod
    def target(self, path: SmoothPath, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """Give what the network should predict, ``(B, *S)``."""

    @abstractmethod
    def data_and_noise(self, path: SmoothPath, point: Tensor, predicted: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        """Give the data and the noise that a prediction at a point of the path stands for, ``(B, *S)`` each."""


class Velocity(Prediction):
    """The velocity of the path."""

    def target(self, path: SmoothPath, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return path.velocity(x, noise, t)

    def data_and_noise(self, path: SmoothPath, point: Tensor, predicted: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        # Solve alpha x + sigma e = point, alpha' x + sigma' e = predicted.
        a, s, da, ds = path.alpha(t), path.sigma(t), path.alpha_slope(t), path.sigma_slope(t)
        determinant = a * ds - da * s
        data = scaled(ds / determinant, point) - scaled(s / determinant, predicted)
        noise = scaled(a / determinant, predicted) - scaled(da / determinant, point)
        return data, noise


class Noise(Prediction):
    """The noise, as in DDPM (arXiv:2006.11239)."""

    margin = 1e-3

    def target(self, path: SmoothPath, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return noise

    def data_and_noise(self, path: SmoothPath, point: Tensor, predicted: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return scaled(1 / path.alpha(t), point - scaled(path.sigma(t), predicted)), predicted


class Data(Prediction):
    """The data."""

    margin = 1e-3

    def target(self, path: SmoothPath, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        return x

    def data_and_noise(self, path: SmoothPath, point: Tensor, predicted: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        return predicted, scaled(1 / path.sigma(t), point - scaled(path.alpha(t), predicted))


def scaled(factor: Tensor, values: Tensor) -> Tensor:
    """Multiply values ``(B, *S)`` by a factor of each example, ``(B,)``."""
    return factor.to(values.dtype).view(-1, *[1] * (values.ndim - 1)) * values
