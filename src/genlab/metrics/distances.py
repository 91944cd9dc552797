"""Euclidean distances between many vectors, by matrix products that keep their digits.

|a - b|² = |a|² + |b|² - 2 a b loses the digits that |a|² has before those of the distance: in float32, the distances of
features around 1,000 with a spread of 1 are wrong by a third. Vectors are therefore moved, so that their mean is 0,
and computed with in float64. A distance does not change if both vectors are moved.
"""

import torch
from torch import Tensor

ROOM = 2**27  # bytes that a block of distances may take; the search for the nearest takes about as much again
ROUNDING = 1e-13  # bound on the error of a squared distance, as a multiple of the vectors' squared lengths


def centred(vectors: Tensor, reference: Tensor) -> tuple[Tensor, Tensor]:
    """Subtract the mean of the reference ``(M, d)`` from vectors ``(N, d)`` and from itself, in float64."""
    mean = reference.double().mean(0)
    return vectors.double() - mean, reference.double() - mean


def rows_at_once(numbers: int) -> int:
    """Give the number of rows for which there is room, if each takes so many float64 numbers."""
    return max(1, ROOM // (8 * numbers))


def blocks(vectors: Tensor, numbers: int) -> tuple[Tensor, ...]:
    """Split vectors ``(N, d)`` into blocks of limited memory, if each vector takes that many float64 numbers."""
    return vectors.split(rows_at_once(numbers))


def squared_distances(a: Tensor, b: Tensor) -> Tensor:
    """Compute the squared distances ``(N, M)`` between vectors ``(N, d)`` and ``(M, d)`` from :func:`centred`."""
    return torch.addmm(b.square().sum(1), a, b.T, alpha=-2).add_(a.square().sum(1, keepdim=True)).clamp_min_(0)
