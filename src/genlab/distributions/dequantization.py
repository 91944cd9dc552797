"""From grey levels to unbounded reals and back, with the change of variables of each step.

A density over real numbers can be made arbitrarily high at the grey levels themselves, so it is not a likelihood of
discrete data. Uniform dequantization spreads each level over its bin; the mean of the density over a bin is then the
probability of the level (A note on the evaluation of generative models, arXiv:1511.01844, section 3.1).

Log-determinants are in nats, summed over all dimensions but the first: ``(B,)``.
"""

import math

import torch
from torch import Tensor


def dequantize(x: Tensor, u: Tensor | float, levels: int) -> tuple[Tensor, Tensor]:
    """Grey levels ``k / (levels - 1)`` to the point ``(k + u) / levels`` of their bin, for ``u`` in [0, 1).

    Args:
        x: ``(B, *S)`` in [0, 1].
        u: ``(B, *S)`` uniform noise, or a number; 1/2 is the middle of the bin.

    Returns:
        The point in [0, 1], ``(B, *S)``, and the log-determinant ``(B,)``: minus the dimensions times ``log(levels)``,
        the volume of the bin that one level's probability is spread over.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    point = ((x * (levels - 1)).round() + u) / levels
    return point, x.new_full((len(x),), -math.log(levels) * math.prod(x.shape[1:]))


def quantize(x: Tensor, levels: int) -> Tensor:
    """The grey level ``k / (levels - 1)`` whose bin a point of [0, 1] lies in: the inverse of ``dequantize``."""
    return (x * levels).floor().clamp(0, levels - 1) / (levels - 1)


def to_logit(x: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """``logit(alpha + (1 - 2 alpha) x)``: [0, 1] to the reals, with ``alpha`` to keep the ends finite.

    Returns:
        The logits ``(B, *S)`` and the log-determinant ``(B,)``.
    """
    p = alpha + (1 - 2 * alpha) * x
    log_p, log_rest = torch.log(p), torch.log(1 - p)
    # dh/dx = (1 - 2 alpha) / (p (1 - p)) of h = log p - log(1 - p).
    log_slope = math.log1p(-2 * alpha) - log_p - log_rest
    return log_p - log_rest, log_slope.flatten(1).sum(1)


def from_logit(h: Tensor, alpha: float) -> Tensor:
    """The inverse of ``to_logit``; logits that no ``x`` of [0, 1] maps to end at its nearest end."""
    return ((torch.sigmoid(h) - alpha) / (1 - 2 * alpha)).clamp(0, 1)
