"""Conversion of grey levels to unbounded real numbers and back, with the log-determinant of each step.

A density over real numbers can be made arbitrarily high at the grey levels themselves, so it is not a likelihood of
discrete data. Uniform dequantization spreads each level over its bin; the mean of the density over a bin is then the
probability of the level (A note on the evaluation of generative models, arXiv:1511.01844, section 3.1).

Log-determinants are in nats, summed over all dimensions but the first: ``(B,)``.
"""

import math

import torch
from torch import Tensor


def dequantize(x: Tensor, u: Tensor | float, levels: int) -> tuple[Tensor, Tensor]:
    """Map grey levels ``k / (levels - 1)`` to points ``(k + u) / levels`` in their bins, for ``u`` in [0, 1).

    Args:
        x: grey levels in [0, 1], ``(B, *S)``.
        u: uniform noise ``(B, *S)``, or a number; 1/2 is the middle of the bin.
        levels: number of grey levels.

    Returns:
        The points in [0, 1], ``(B, *S)``, and the log-determinant ``(B,)``: minus the number of dimensions times
        ``log(levels)``, which is the log-volume of the bin that the probability of a level is spread over.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    point = ((x * (levels - 1)).round() + u) / levels
    return point, x.new_full((len(x),), -math.log(levels) * math.prod(x.shape[1:]))


def quantize(x: Tensor, levels: int) -> Tensor:
    """Give the grey level ``k / (levels - 1)`` whose bin contains a point of [0, 1]: the inverse of ``dequantize``."""
    return (x * levels).floor().clamp(0, levels - 1) / (levels - 1)


def to_logit(x: Tensor, alpha: float) -> tuple[Tensor, Tensor]:
    """Map [0, 1] to the real numbers by ``logit(alpha + (1 - 2 alpha) x)``; ``alpha`` keeps the ends finite.

    Returns:
        The logits ``(B, *S)`` and the log-determinant ``(B,)``.
    """
    p = alpha + (1 - 2 * alpha) * x
    log_p, log_rest = torch.log(p), torch.log(1 - p)
    # dh/dx = (1 - 2 alpha) / (p (1 - p)) of h = log p - log(1 - p).
    log_slope = math.log1p(-2 * alpha) - log_p - log_rest
    return log_p - log_rest, log_slope.flatten(1).sum(1)


def from_logit(h: Tensor, alpha: float) -> Tensor:
    """Invert ``to_logit``; logits outside its range give the nearer of 0 and 1."""
    return ((torch.sigmoid(h) - alpha) / (1 - 2 * alpha)).clamp(0, 1)
