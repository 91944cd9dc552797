"""Increasing maps that a coupling applies to each value, with parameters from a network.

Values ``(B, *S)`` have parameters ``(B, num_params, *S)``. Values are computed in at least float32, also if the network
runs in a lower precision; float64 is kept. Logarithms of slopes are in nats for each value, ``(B, *S)``.
"""

import math
from abc import ABC, abstractmethod

import torch
from torch import Tensor

from genlab.distributions.logistic import log_sigmoid
from genlab.errors import InputError


class Transform(ABC):
    """Family of increasing maps of the real line onto itself.

    Attributes:
        num_params: number of parameters for each value; all 0 gives a map near the identity.
    """

    num_params: int

    @abstractmethod
    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        """Map ``x``; give the results and the logarithm of the map's slope at ``x``, ``(B, *S)`` each."""

    @abstractmethod
    def inverse(self, y: Tensor, params: Tensor) -> Tensor:
        """Give the values that ``forward`` maps to ``y``, ``(B, *S)``."""

    def of_channels(self, h: Tensor, params: Tensor, kept: int) -> tuple[Tensor, Tensor]:
        """Map all channels but the first ones.

        Args:
            h: features ``(B, C, H, W)``.
            params: parameters ``(B, num_params (C - kept), H, W)``.
            kept: number of channels that stay as they are.

        Returns:
            The features, and for each example the sum of the logarithms of the slopes in nats, ``(B,)``.
        """
        changed, log_slope = self.forward(h[:, kept:], params.unflatten(1, (self.num_params, -1)))
        return torch.cat([h[:, :kept], changed], 1), log_slope.sum((1, 2, 3))

    def inverse_of_channels(self, h: Tensor, params: Tensor, kept: int) -> Tensor:
        """Give the features that ``of_channels`` maps to ``h``."""
        changed = self.inverse(h[:, kept:], params.unflatten(1, (self.num_params, -1)))
        return torch.cat([h[:, :kept], changed], 1)


def precise(values: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
    """Convert values and parameters to the precision of the values, but at least to float32."""
    values = values.to(torch.promote_types(values.dtype, torch.float32))
    return values, params.to(values.dtype)


class Affine(Transform):
    """Affine map ``(x + t) sigmoid(s + 2)``: Glow, Generative Flow with Invertible 1x1 Convolutions (arXiv:1807.03039).

    The sigmoid keeps the scale below 1, so that a coupling cannot blow up the input of the next one; the normalization
    that follows restores the scale.
    """

    num_params = 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        x, params = precise(x, params)
        s, t = params.unbind(1)
        return (x + t) * torch.sigmoid(s + 2), log_sigmoid(s + 2)

    def inverse(self, y: Tensor, params: Tensor) -> Tensor:
        y, params = precise(y, params)
        s, t = params.unbind(1)
        return y / torch.sigmoid(s + 2) - t

    @staticmethod
    def change(h: Tensor, params: Tensor, kept: int) -> tuple[Tensor, Tensor]:
        """Do what ``of_channels`` does in place, with fewer operators, and without a graph for the backward pass.

        Returns:
            The slopes, and for each example the sum of their logarithms in nats, ``(B,)``.
        """
        s, t = params.to(h.dtype).chunk(2, 1)
        slope = (s + 2).sigmoid_()
        h[:, kept:].add_(t).mul_(slope)
        # Where the sigmoid is 0 in this precision, its logarithm is that of the least number above 0.
        return slope, slope.clamp_min(torch.finfo(slope.dtype).tiny).log_().sum((1, 2, 3))

    @staticmethod
    def change_backward(
        grad: Tensor, grad_log_det: Tensor, out: Tensor, slope: Tensor, kept: int
    ) -> tuple[Tensor, Tensor]:
        """Give the gradients of the features and of the parameters that ``change`` was given.

        Args:
            grad: gradient of the results.
            grad_log_det: gradient of the log-determinants.
            out: results of ``change``.
            slope: slopes that it gave.
            kept: number of channels that stayed as they were.
        """
        of_changed = grad[:, kept:]
        grad_t = of_changed * slope  # and that of the changed channels
        grad_s = (of_changed * out[:, kept:]).add_(grad_log_det[:, None, None, None]).mul_(1 - slope)
        grad_h = grad.clone(memory_format=torch.channels_last)
        grad_h[:, kept:] = grad_t
        return grad_h, torch.cat([grad_s, grad_t], 1)


class BoundedAffine(Transform):
    """Affine map ``x exp(tanh s) + t``: the last part of the couplings in the code of Flow++ (arXiv:1902.00275)."""

    num_params = 2

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        x, params = precise(x, params)
        s, t = params.unbind(1)
        log_slope = torch.tanh(s)
        return x * log_slope.exp() + t, log_slope

    def inverse(self, y: Tensor, params: Tensor) -> Tensor:
        y, params = precise(y, params)
        s, t = params.unbind(1)
        return (y - t) * torch.exp(-torch.tanh(s))


class RationalQuadraticSpline(Transform):
    """Spline of monotone pieces that are quotients of two quadratics: Neural Spline Flows (arXiv:1906.04032).

    See section 3.1 of the paper. The spline is given by knots ``(x_k, y_k)`` and the slopes ``d_k`` at them. It runs
    between opposite corners of the square from ``-bound`` to ``bound``. Outside, the map is the identity; the spline
    has slope 1 at both ends, to match it. If all parameters are 0, the whole map is the identity.

    Args:
        num_bins: number of pieces.
        bound: half the side of the square.
        least: lower limit on the width and the height of a piece, as fractions of the side, and on the slope at a knot;
            steeper or flatter pieces could not be inverted in float32.

    Raises:
        InputError: if ``num_bins`` is below 2, ``bound`` is not positive, or ``least`` is not between 0 and
            ``1 / num_bins``.
    """

    def __init__(self, num_bins: int = 8, bound: float = 3.0, least: float = 1e-3) -> None:
        if num_bins < 2 or bound <= 0 or not 0 < least < 1 / num_bins:
            raise InputError(
                f"num_bins={num_bins}, bound={bound}, least={least}: expected at least 2 bins, a bound above 0, and "
                "least above 0 and below 1 / num_bins"
            )
        self.num_bins, self.bound, self.least = num_bins, bound, least
        self.num_params = 3 * num_bins - 1  # widths, heights, and slopes at the inner knots

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        x, params = precise(x, params)
        xs, ys, slopes = self._knots(params)
        inside = x.abs() < self.bound
        at = x.clamp(-self.bound, self.bound)
        x0, width, y0, height, d0, d1 = self._piece(at, xs, xs, ys, slopes)
        s = height / width
        xi = (at - x0) / width
        both = xi * (1 - xi)
        below = s + (d0 + d1 - 2 * s) * both  # the denominator of the quotient
        y = y0 + height * (s * xi.square() + d0 * both) / below
        slope = d1 * xi.square() + 2 * s * both + d0 * (1 - xi).square()
        log_slope = 2 * s.log() + slope.log() - 2 * below.log()
        return torch.where(inside, y, x), torch.where(inside, log_slope, torch.zeros_like(x))

    def inverse(self, y: Tensor, params: Tensor) -> Tensor:
        y, params = precise(y, params)
        xs, ys, slopes = self._knots(params)
        inside = y.abs() < self.bound
        at = y.clamp(-self.bound, self.bound)
        x0, width, y0, height, d0, d1 = self._piece(at, ys, xs, ys, slopes)
        s = height / width
        # a xi^2 + b xi + c = 0: take the root in [0, 1], in the form without cancellation.
        bend = (at - y0) * (d0 + d1 - 2 * s)
        a = height * (s - d0) + bend
        b = height * d0 - bend
        c = -s * (at - y0)
        root = (b.square() - 4 * a * c).clamp_min(0).sqrt()
        x = x0 + width * 2 * c / (-b - root)
        return torch.where(inside, x, y)

    def _knots(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Give the knots' x, y and slopes, ``(B, num_bins + 1, *S)`` each."""
        widths, heights, inner = params.split([self.num_bins, self.num_bins, self.num_bins - 1], 1)
        of_one = math.log(math.expm1(1 - self.least))  # softplus(of_one) + least = 1
        ones = torch.ones_like(widths[:, :1])
        slopes = torch.cat([ones, self.least - log_sigmoid(-inner - of_one), ones], 1)
        return self._positions(widths), self._positions(heights), slopes

    def _positions(self, logits: Tensor) -> Tensor:
        shares = self.least + (1 - self.least * self.num_bins) * logits.softmax(1)
        inner = 2 * self.bound * shares[:, :-1].cumsum(1) - self.bound
        end = torch.full_like(logits[:, :1], self.bound)
        return torch.cat([-end, inner, end], 1)

    def _piece(self, at: Tensor, along: Tensor, xs: Tensor, ys: Tensor, slopes: Tensor) -> list[Tensor]:
        """Give x, width, y, height and end slopes of the piece that contains ``at``, given the knots of its axis."""
        k = (at.unsqueeze(1) >= along[:, 1:-1]).sum(1, keepdim=True)
        (x0, x1), (y0, y1), (d0, d1) = (
            (knots.gather(1, k).squeeze(1), knots.gather(1, k + 1).squeeze(1)) for knots in (xs, ys, slopes)
        )
        return [x0, x1 - x0, y0, y1 - y0, d0, d1]


class LogisticMixture(Transform):
    """Logit of the CDF of a mixture of logistics, followed by an affine map: Flow++ (arXiv:1902.00275), section 3.2.

    ``logit F(x) = log F(x) - log(1 - F(x))`` has the slope ``f / (F (1 - F))``. Each of ``f``, ``F`` and ``1 - F`` is a
    sum over components, computed in logarithms to be exact in both tails. The inverse has no closed form; it is found
    by bisection.

    Args:
        num_components: number of components of the mixture.
        affine: affine map; None for ``Affine``.

    Raises:
        InputError: if ``num_components`` is below 1.
    """

    # Limits the scale of a component to between e^-3 and e^3: between two much narrower components, the map would be
    # too flat to invert in float32.
    LOG_SCALE = 3.0

    def __init__(self, num_components: int = 4, affine: Transform | None = None) -> None:
        if num_components < 1:
            raise InputError(f"num_components={num_components}: at least 1")
        self.num_components = num_components
        self.affine = affine or Affine()
        self.num_params = 3 * num_components + self.affine.num_params

    def forward(self, x: Tensor, params: Tensor) -> tuple[Tensor, Tensor]:
        x, params = precise(x, params)
        log_pi, mean, log_scale, of_affine = self._components(params)
        v = (x.unsqueeze(1) - mean) * torch.exp(-log_scale)
        log_below, log_above = log_sigmoid(v), log_sigmoid(-v)
        log_cdf = torch.logsumexp(log_pi + log_below, 1)
        log_rest = torch.logsumexp(log_pi + log_above, 1)
        log_pdf = torch.logsumexp(log_pi + log_below + log_above - log_scale, 1)
        y, log_slope = self.affine.forward(log_cdf - log_rest, of_affine)
        return y, log_pdf - log_cdf - log_rest + log_slope

    def inverse(self, y: Tensor, params: Tensor) -> Tensor:
        y, params = precise(y, params)
        log_pi, mean, log_scale, of_affine = self._components(params)
        logit = self.affine.inverse(y, of_affine)
        # The quantile of the mixture lies between the smallest and the largest quantile of its components.
        quantiles = mean + log_scale.exp() * logit.unsqueeze(1)
        low, high = quantiles.amin(1), quantiles.amax(1)
        # 1.5 times as many bisections as bits of precision: the interval may be wide compared with the value.
        for _ in range(int(-1.5 * math.log2(torch.finfo(y.dtype).eps))):
            middle = (low + high) / 2
            v = (middle.unsqueeze(1) - mean) * torch.exp(-log_scale)
            found = torch.logsumexp(log_pi + log_sigmoid(v), 1) - torch.logsumexp(log_pi + log_sigmoid(-v), 1)
            low, high = torch.where(found < logit, middle, low), torch.where(found < logit, high, middle)
        return (low + high) / 2

    def _components(self, params: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Give log-weights, means and log-scales, ``(B, num_components, *S)`` each, and the affine map's parameters."""
        K = self.num_components
        logits, mean, log_scale, of_affine = params.split([K, K, K, self.affine.num_params], 1)
        # Components with equal initial parameters would get equal gradients, so their means start at different places.
        apart = torch.linspace(-1, 1, K, dtype=params.dtype, device=params.device) if K > 1 else params.new_zeros(1)
        mean = mean + apart.view(-1, *[1] * (params.ndim - 2))
        log_scale = self.LOG_SCALE * torch.tanh(log_scale / self.LOG_SCALE)
        return logits.log_softmax(1), mean, log_scale, of_affine
