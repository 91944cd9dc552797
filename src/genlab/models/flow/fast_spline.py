"""The splines of zuko's flows in half as many operators, which is what their steps take time for."""

import math
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributions import Transform
from zuko.transforms import MonotonicRQSTransform


class FastSpline(MonotonicRQSTransform):
    """The map of ``zuko.transforms.MonotonicRQSTransform``: Neural Spline Flows (arXiv:1906.04032), section 3.1.

    Args:
        widths: unconstrained widths of the K bins, ``(*, K)``.
        heights: unconstrained heights of the bins, ``(*, K)``.
        derivatives: unconstrained slopes at the inner knots, ``(*, K - 1)``.
        bound: half the side of the square between whose corners the spline runs; outside, the map is the identity.
        slope: least slope at a knot; the greatest is its inverse.
        **options: options of ``torch.distributions.Transform``.
    """

    def __init__(
        self,
        widths: Tensor,
        heights: Tensor,
        derivatives: Tensor,
        bound: float = 5.0,
        slope: float = 1e-3,
        **options: Any,
    ) -> None:
        Transform.__init__(self, **options)
        softness = 1 / abs(math.log(slope))
        sizes = _softly_bounded(torch.stack((widths, heights)), 2 * softness).softmax(-1)
        places = F.pad(sizes.cumsum(-1), (1, 0)).mul_(2 * bound).sub_(bound)
        slopes = F.pad(_softly_bounded(derivatives, softness), (1, 1)).exp()
        self.knots = torch.cat((places, slopes[None]))  # x, y and slope of each knot, (3, *, K + 1)
        self.horizontal, self.vertical, self.derivatives = self.knots.unbind()

    def _at(self, knots: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Find the bin of each value between knots, ``(*, K + 1)``.

        Returns:
            Whether there is one; then x, y and slope at its left, its width and height, its steepness, and the slope at
            its right.
        """
        k = (knots < value[..., None]).sum(-1, keepdim=True) - 1
        inside = ((k >= 0) & (k < self.bins)).squeeze(-1)
        k = k.clamp_(0, self.bins - 1)
        every = self.knots
        if every.shape[1:-1] != k.shape[:-1]:  # one spline for several values, or several for one
            every = torch.stack([one.expand(*k.shape[:-1], -1) for one in every])
        of_bin = every.gather(-1, torch.cat((k, k + 1), -1).expand(3, *k.shape[:-1], 2))
        left, right = of_bin.unbind(-1)
        x, y, slope = left.unbind()
        width, height, _ = (right - left).unbind()
        return inside, x, y, slope, width, height, height / width, right[2]

    def _call(self, x: Tensor) -> Tensor:
        return self.call_and_ladj(x)[0]

    def call_and_ladj(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map values ``(*,)``; give the results and the logarithms of the slopes in nats, ``(*,)`` each."""
        inside, x0, y0, d0, width, height, s, d1 = self._at(self.horizontal, x)
        z = inside * (x - x0) / width
        rest = 1 - z
        near, far = torch.addcmul(s * z, d0, rest), torch.addcmul(s * rest, d1, z)
        below = torch.addcmul(s, torch.sub(d0 + d1, s, alpha=2), z * rest)
        y = torch.addcmul(y0, height, z * near / below)
        slope = (s / below).square() * torch.addcmul(rest * near, z, far)
        return torch.where(inside, y, x), inside * slope.log()

    def _inverse(self, y: Tensor) -> Tensor:
        inside, x0, y0, d0, width, height, s, d1 = self._at(self.vertical, y)
        rise = inside * (y - y0)
        bend = rise * torch.sub(d0 + d1, s, alpha=2)
        a = torch.addcmul(bend, height, s - d0)
        b = torch.addcmul(-bend, height, d0)
        c = s * rise
        z = 2 * c / (b + torch.addcmul(b.square(), a, c, value=4).sqrt())
        return torch.where(inside, torch.addcmul(x0, z, width), y)


def _softly_bounded(x: Tensor, softness: float) -> Tensor:
    """Give ``x / (1 + softness |x|)``, which lies between plus and minus ``1 / softness``."""
    return x / x.abs().mul_(softness).add_(1)


def with_fast_splines(flow: nn.Module) -> None:
    """Let the layers of a flow of zuko compute their splines by :class:`FastSpline`, in place.

    Args:
        flow: flow, of whose layers only those change that have zuko's splines.
    """
    for layer in flow.modules():
        univariate = getattr(layer, "univariate", None)
        if isinstance(univariate, partial) and univariate.func is MonotonicRQSTransform:
            layer.univariate = partial(FastSpline, *univariate.args, **univariate.keywords)  # type: ignore[assignment]
