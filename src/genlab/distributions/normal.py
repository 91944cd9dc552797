"""Logarithms of the standard normal distribution's probabilities of intervals, precise for narrow ones and far out."""

import math

import torch
from torch import Tensor

# Positive nodes of the Gauss-Legendre rule with 4 points on [-1, 1], and the weight of each pair of nodes, which sum to
# 1. Where the rule is used, its error is below one rounding of float32.
NODES = (0.3399810435848563, 0.8611363115940526)
WEIGHTS = (0.6521451548625461, 0.3478548451374539)
LOG_ROOT_TAU = 0.5 * math.log(2 * math.pi)


def log_interval(middle: Tensor, half: Tensor) -> Tensor:
    """Compute log(Phi(middle + half) - Phi(middle - half)) elementwise in nats, for ``half`` > 0.

    The difference of two values of Phi has no correct digit if the interval is narrow or lies far out. Three formulas
    avoid it: quadrature of the density over a narrow interval, scaled complementary error functions for an interval on
    one side of 0, and Phi itself for a wide one around 0, whose probability is above 0.19.
    """
    middle, half = torch.broadcast_tensors(middle.abs(), half)
    narrow = (half < 0.5) & (half * middle < 0.5)
    around = ~narrow & (half > middle)
    aside = ~(narrow | around)
    # Each formula gets harmless values where another one is chosen: an infinite derivative times 0 would be NaN.
    zero, one = middle.new_zeros(()), middle.new_ones(())
    of_narrow = _by_quadrature(torch.where(narrow, middle, zero), torch.where(narrow, half, one / 2))
    m, h = torch.where(around, middle, zero), torch.where(around, half, one)
    of_wide = torch.log(torch.special.ndtr(m + h) - torch.special.ndtr(m - h))
    of_tail = _in_tail(torch.where(aside, middle, one), torch.where(aside, half, one))
    return torch.where(narrow, of_narrow, torch.where(around, of_wide, of_tail))


def log_below(x: Tensor) -> Tensor:
    """Compute log Phi(x) elementwise in nats; its derivative is right far out, where that of ``log_ndtr`` is not."""
    far = x < -1
    minus = torch.where(far, -x, x.new_ones(()))
    tail = torch.special.erfcx(minus / math.sqrt(2)).log() - 0.5 * minus.square() - math.log(2)
    return torch.where(far, tail, torch.special.log_ndtr(torch.where(far, x.new_zeros(()), x)))


def _by_quadrature(m: Tensor, h: Tensor) -> Tensor:
    """Integrate the density: exp(-m²/2) times the mean of exp(-m h t - h² t²/2) over t in [-1, 1]."""
    pairs = zip(NODES, WEIGHTS, strict=True)
    mean = sum((w * torch.cosh(m * h * t) * torch.exp(-0.5 * (h * t).square()) for t, w in pairs), torch.zeros_like(m))
    return torch.log(2 * h * mean) - 0.5 * m.square() - LOG_ROOT_TAU


def _in_tail(m: Tensor, h: Tensor) -> Tensor:
    """Subtract the probabilities beyond both ends, each written as exp(-x²/2) erfcx(x / sqrt 2) / 2."""
    near, far = m - h, m + h  # near >= 0
    log_near, log_far = (torch.special.erfcx(x / math.sqrt(2)).log() for x in (near, far))
    ratio = torch.exp(-2 * m * h + log_far - log_near)  # of the probabilities beyond the ends, below 0.7
    return log_near - 0.5 * near.square() - math.log(2) + torch.log(1 - ratio)
