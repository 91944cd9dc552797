"""Density and coverage: Reliable Fidelity and Diversity Metrics for Generative Models (arXiv:2002.09797)."""

import torch
from torch import Tensor

BLOCK = 2000  # number of rows of the distance matrix that are in memory at once


def density_and_coverage(fake: Tensor, real: Tensor, k: int = 5) -> tuple[float, float]:
    """Compute density and coverage of samples' features ``(N, d)`` and real features ``(M, d)``, M > k.

    Each real point has a ball whose radius is the distance to its k-th nearest real neighbour. Density is the mean
    number of balls that contain a sample, divided by k, and can exceed 1. Coverage is the share of balls that contain
    at least one sample.
    """
    radii = torch.cat([torch.cdist(part, real).kthvalue(k + 1).values for part in real.split(BLOCK)])
    inside = 0
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for part in fake.split(BLOCK):
        within = torch.cdist(part, real) < radii
        inside += int(within.sum())
        covered |= within.any(0)
    return inside / (k * len(fake)), float(covered.float().mean())
