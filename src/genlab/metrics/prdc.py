"""Density and coverage: Reliable Fidelity and Diversity Metrics for Generative Models (arXiv:2002.09797)."""

import torch
from torch import Tensor

BLOCK = 2000  # rows of a distance matrix that are in memory at once


def density_and_coverage(fake: Tensor, real: Tensor, k: int = 5) -> tuple[float, float]:
    """Of features ``(N, d)`` and ``(M, d)``, M > k.

    Around each real point lies the ball that just reaches its k-th neighbour among the real ones. Density counts the
    balls a sample lies in, in units of k, and can exceed 1; coverage is the share of balls that a sample lies in.
    """
    radii = torch.cat([torch.cdist(part, real).kthvalue(k + 1).values for part in real.split(BLOCK)])
    inside = 0
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for part in fake.split(BLOCK):
        within = torch.cdist(part, real) < radii
        inside += int(within.sum())
        covered |= within.any(0)
    return inside / (k * len(fake)), float(covered.float().mean())
