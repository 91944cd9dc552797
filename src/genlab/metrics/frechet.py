"""The Fréchet distance of many sets of features from one and the same reference."""

import torch
from torch import Tensor

from genlab.metrics.distances import blocks


class FrechetDistance:
    """Fréchet distance between Gaussians fitted to features and to those of a reference, in float64.

    |m - m_r|² + Tr(C + C_r - 2 (C_r^½ C C_r^½)^½). The root of the reference's covariance is computed once, and the
    last root from the eigenvalues of a symmetric matrix, so that several sets of features cost little more than one.

    Args:
        reference: features ``(M, d)`` of the reference, M > 1.
    """

    def __init__(self, reference: Tensor) -> None:
        self.mean, self.covariance = _moments(reference)
        values, vectors = torch.linalg.eigh(self.covariance)
        self.root = (vectors * values.clamp_min(0).sqrt()) @ vectors.T

    def __call__(self, features: Tensor) -> float:
        """Compute the distance of features ``(N, d)``, N > 1."""
        mean, covariance = _moments(features)
        shared = torch.linalg.eigvalsh(self.root @ covariance @ self.root).clamp_min(0).sqrt().sum()
        traces = covariance.trace() + self.covariance.trace()
        return max(0.0, float((mean - self.mean).square().sum() + traces - 2 * shared))


def _moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the mean ``(d,)`` and the unbiased covariance ``(d, d)`` of features ``(N, d)``."""
    mean = features.mean(0, dtype=torch.float64)
    d = len(mean)
    scatter = torch.zeros(d, d, dtype=torch.float64, device=features.device)
    for rows in blocks(features, d):
        centred = rows.double() - mean
        scatter.addmm_(centred.T, centred)
    return mean, scatter / (len(features) - 1)
