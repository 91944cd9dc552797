"""Sequential drawing of values, some of which may be known in advance."""

from collections.abc import Callable

import torch
from torch import Tensor

from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError


def check_known(known: Tensor, like: Tensor) -> Tensor:
    """Check known values and move them to the device and type of ``like``.

    Args:
        known: values in [0, 1], NaN where they are to be drawn.
        like: any tensor of the shape that ``known`` must have.

    Raises:
        InputError: if ``known`` has another shape, or values outside of [0, 1].
    """
    if known.shape != like.shape:
        raise InputError(f"known has the shape {list(known.shape)}: expected {list(like.shape)}")
    if ((known < 0) | (known > 1)).any():
        raise InputError("known: expected values in [0, 1], and NaN where they are to be drawn")
    return known.to(like)


class Draws:
    """Rule that gives each value: its known value, or else a draw from its distribution with a fixed uniform number.

    Args:
        distribution: distribution of one value.
        u: uniform numbers in [0, 1), one for every value, ``(N, *S)``.
        temperature: temperature of the distribution.
        known: known values in [0, 1], ``(N, *S)``, NaN at the values to be drawn; ``None`` draws all of them.
        order: number of the model's generation order for each example, int64 ``(N,)``; ``None`` if there is only one.
    """

    def __init__(
        self,
        distribution: PixelDistribution,
        u: Tensor,
        temperature: float = 1.0,
        known: Tensor | None = None,
        order: Tensor | None = None,
    ) -> None:
        self.distribution, self.u, self.temperature = distribution, u, temperature
        self.known, self.order = known, order

    def map(self, view: Callable[[Tensor], Tensor]) -> "Draws":
        """Give the same draws with the values of each example rearranged by ``view``."""
        known = None if self.known is None else view(self.known)
        return Draws(self.distribution, view(self.u), self.temperature, known, self.order)

    def of(self, chosen: Tensor) -> "Draws":
        """Give the draws of the examples chosen by a mask, bool ``(N,)``."""
        known, order = (None if part is None else part[chosen] for part in (self.known, self.order))
        return Draws(self.distribution, self.u[chosen], self.temperature, known, order)

    def __call__(self, params: Tensor, *place: int | slice) -> Tensor:
        """Draw the values at one place of ``S``, ``(N, ...)``, given their parameters, ``(N, num_params, ...)``."""
        value = self.distribution.sample(params, self.u[:, *place], self.temperature)
        if self.known is None:
            return value
        known = self.known[:, *place]
        return torch.where(known.isnan(), value, known)
