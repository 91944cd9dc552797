"""The Fréchet distance between Gaussians fitted to two sets of features (Heusel et al., arXiv:1706.08500)."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Gaussian:
    """Mean ``(d,)`` and covariance ``(d, d)`` of ``num`` feature vectors, in float64."""

    mean: Tensor
    covariance: Tensor
    num: int

    @classmethod
    def fit(cls, features: Tensor) -> "Gaussian":
        """Of features ``(N, d)``, with the unbiased covariance; at least two of them."""
        if len(features) < 2:
            raise ValueError("a covariance needs at least two samples")
        features = features.double()
        mean = features.mean(0)
        centred = features - mean
        return cls(mean, centred.T @ centred / (len(features) - 1), len(features))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """``|m_a - m_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^{1/2})``, at least 0.

    The trace of the root is that of the symmetric ``C_a^{1/2} C_b C_a^{1/2}``, whose eigenvalues are real and
    non-negative, so that nothing complex has to be dropped.
    """
    values, vectors = torch.linalg.eigh(a.covariance)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    trace_of_root = torch.linalg.eigvalsh(root @ b.covariance @ root).clamp(min=0).sqrt().sum()
    distance = (a.mean - b.mean).square().sum() + a.covariance.trace() + b.covariance.trace() - 2 * trace_of_root
    return max(0.0, float(distance))
