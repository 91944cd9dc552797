"""Maximum mean discrepancy with a Gaussian kernel, in bounded memory."""

import torch
from torch import Tensor

from genlab.metrics.distances import blocks, centred, squared_distances


def gaussian_mmd(x: Tensor, y: Tensor, sigma: float) -> float:
    """Compute the biased estimate of the squared MMD with the kernel exp(-|a - b|² / (2 sigma²)).

    A Kernel Two-Sample Test (Gretton et al., 2012, JMLR 13), equation 5: mean k(x, x') + mean k(y, y') - 2 mean k(x, y)
    over all pairs, those of a vector with itself included.

    Args:
        x: vectors ``(N, d)``.
        y: vectors ``(M, d)``.
        sigma: width of the kernel.
    """
    x, y = centred(x, y)
    # The ones of the three means add up to 0. Without them, kernels near 1 keep the digits in which they differ.
    return _mean_less_one(x, x, sigma) + _mean_less_one(y, y, sigma) - 2 * _mean_less_one(x, y, sigma)


def _mean_less_one(a: Tensor, b: Tensor, sigma: float) -> float:
    """Compute the mean of k - 1 over all pairs of ``(N, d)`` and ``(M, d)``."""
    total = torch.zeros((), dtype=torch.float64, device=a.device)
    for rows in blocks(a, len(b)):
        total += squared_distances(rows, b).mul_(-0.5 / sigma**2).expm1_().sum()
    return float(total) / (len(a) * len(b))
