"""Density and coverage: Reliable Fidelity and Diversity Metrics for Generative Models (arXiv:2002.09797)."""

import torch
from torch import Tensor

from genlab.metrics.distances import ROUNDING, blocks, centred, squared_distances


def density_and_coverage(fake: Tensor, real: Tensor, k: int = 5) -> tuple[float, float]:
    """Compute density and coverage of samples' features ``(N, d)`` and real features ``(M, d)``, M > k.

    Each real point has a ball whose radius is the distance to its k-th nearest real neighbour. Density is the mean
    number of balls that contain a sample, divided by k, and can exceed 1. Coverage is the share of balls that contain
    at least one sample. A ball contains the points on its surface: if a real image is there k + 1 times, its ball is a
    single point, which contains equal samples.
    """
    fake, real = centred(fake, real)
    radii = torch.cat([squared_distances(part, real).kthvalue(k + 1).values for part in blocks(real, len(real))])
    # Equal points have a distance of 0 but for rounding.
    radii = radii + ROUNDING * (real.square().sum(1) + radii)
    inside = 0
    covered = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    for part in blocks(fake, len(real)):
        within = squared_distances(part, real) <= radii
        inside += int(within.sum())
        covered |= within.any(0)
    return inside / (k * len(fake)), float(covered.float().mean())
