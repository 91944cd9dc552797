"""Values that are drawn one after the other, some of which may be known."""

from collections.abc import Callable

import torch
from torch import Tensor

from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError


def check_known(known: Tensor, like: Tensor) -> Tensor:
    """Values that are known, on the device of ``like`` and of its type.

    Args:
        known: values in [0, 1], NaN where they are to be drawn.
        like: any tensor of the shape that ``known`` must have.

    Raises:
        InputError: ``known`` has another shape, or values outside of [0, 1].
    """
    if known.shape != like.shape:
        raise InputError(f"known has the shape {list(known.shape)}: expected {list(like.shape)}")
    if ((known < 0) | (known > 1)).any():
        raise InputError("known: expected values in [0, 1], and NaN where they are to be drawn")
    return known.to(like)


class Draws:
    """What each value becomes: what it is known to be, or else what its distribution gives at a uniform of its own.

    Args:
        distribution: of one value.
        u: a uniform for every value, ``(N, *S)``.
        temperature: of the distribution.
        known: ``(N, *S)`` in [0, 1], NaN at the values to be drawn; ``None`` draws all of them.
        order: which of a model's orders each example is drawn in, int64 ``(N,)``; ``None`` where there is one.
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
        """The same draws with the values of each example in another arrangement."""
        known = None if self.known is None else view(self.known)
        return Draws(self.distribution, view(self.u), self.temperature, known, self.order)

    def of(self, chosen: Tensor) -> "Draws":
        """The draws of some examples, bool ``(N,)``."""
        known, order = (None if part is None else part[chosen] for part in (self.known, self.order))
        return Draws(self.distribution, self.u[chosen], self.temperature, known, order)

    def __call__(self, params: Tensor, *place: int | slice) -> Tensor:
        """The values at one place of ``S``, ``(N, ...)``, from their parameters, ``(N, num_params, ...)``."""
        value = self.distribution.sample(params, self.u[:, *place], self.temperature)
        if self.known is None:
            return value
        known = self.known[:, *place]
        return torch.where(known.isnan(), value, known)
