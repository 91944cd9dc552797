"""Test for memorization: compares the distances of samples and of held-out images to the training images."""

from dataclasses import dataclass

import torch
from torch import Tensor

from genlab.metrics.distances import blocks, centred, squared_distances


def nearest(queries: Tensor, keys: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Find the Euclidean distances to the k nearest keys and the indices of these, each ``(N, k)``, nearest first.

    A query that equals a key has a distance of exactly 0.
    """
    dtype = queries.dtype
    queries, keys = centred(queries, keys)
    distances, indices = [], []
    for part in blocks(queries, len(keys) + k * keys.shape[1]):
        found = squared_distances(part, keys).topk(min(k, len(keys)), largest=False).indices
        # The k distances once more, from differences: without the rounding of a matrix product.
        distance, order = (part.unsqueeze(1) - keys[found]).norm(dim=2).sort(1)
        distances.append(distance.to(dtype))
        indices.append(found.gather(1, order))
    return torch.cat(distances), torch.cat(indices)


@dataclass(frozen=True)
class Memorization:
    """Result of a test whether samples are nearer to the training set than held-out images are.

    Attributes:
        too_near: share of samples whose distance to the training images is below the given quantile of the held-out
            images' distances: about ``quantile`` for a model that draws new images, 1 for a model that copies.
        z: standard normal statistic of A Non-Parametric Test to Detect Data-Copying (arXiv:2004.05675), over the
            whole space at once (Mann-Whitney): about 0 if samples and held-out images are equally far from the training
            images, far below 0 if samples are nearer. Its magnitude grows with the number of samples.
        quantile: quantile of the held-out images' distances below which a sample is too near.
    """

    too_near: float
    z: float
    quantile: float

    @classmethod
    def test(cls, samples: Tensor, held_out: Tensor, quantile: float = 0.01) -> "Memorization":
        """Run the test on distances to the nearest training image: ``(N,)`` of samples, ``(M,)`` of held-out images."""
        samples, held_out = samples.double(), held_out.double()
        too_near = float((samples < held_out.quantile(quantile)).double().mean())
        ordered = held_out.sort().values
        # u counts the pairs (sample, held-out image) in which the sample is farther; a tie counts half.
        below = torch.searchsorted(ordered, samples, right=False)
        not_above = torch.searchsorted(ordered, samples, right=True)
        u = float((below + not_above).double().sum()) / 2
        n, m = len(samples), len(held_out)
        z = (u - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5
        return cls(too_near, z, quantile)
