"""Values that are drawn one after the other, some of which may be known."""

from collections.abc import Callable

import torch
from torch import Tensor

from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError


class Draws:
    """What each value becomes: what it is known to be, or else what its distribution gives at a uniform of its own.

    Args:
        distribution: of one value.
        u: a uniform for every value, ``(N, *S)``.
        temperature: of the distribution.
        known: ``(N, *S)`` in [0, 1], NaN at the values to be drawn; ``None`` draws all of them.

    Raises:
        InputError: ``known`` has another shape, or values outside of [0, 1].
    """

    def __init__(
        self, distribution: PixelDistribution, u: Tensor, temperature: float = 1.0, known: Tensor | None = None
    ) -> None:
        self.distribution, self.u, self.temperature = distribution, u, temperature
        self.known = None if known is None else known.to(u)
        if self.known is None:
            return
        if self.known.shape != u.shape:
            raise InputError(f"known has the shape {list(self.known.shape)}: expected {list(u.shape)}")
        if ((self.known < 0) | (self.known > 1)).any():
            raise InputError("known: expected values in [0, 1], and NaN where they are to be drawn")

    def map(self, view: Callable[[Tensor], Tensor]) -> "Draws":
        """The same of the values in another arrangement, or of some of them."""
        known = None if self.known is None else view(self.known)
        return Draws(self.distribution, view(self.u), self.temperature, known)

    def __call__(self, params: Tensor, *place: int | slice) -> Tensor:
        """The values at one place of ``S``, ``(N, ...)``, from their parameters, ``(N, num_params, ...)``."""
        value = self.distribution.sample(params, self.u[:, *place], self.temperature)
        if self.known is None:
            return value
        known = self.known[:, *place]
        return torch.where(known.isnan(), value, known)
