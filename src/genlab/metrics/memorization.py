"""Does a model repeat its training images? The neighbours of its samples, against those of held-out images."""

from dataclasses import dataclass

import torch
from torch import Tensor

BLOCK = 1000  # queries whose distances to every key are in memory at once


def nearest(queries: Tensor, keys: Tensor, k: int = 1) -> tuple[Tensor, Tensor]:
    """Euclidean distances to the k nearest keys and their indices, each ``(N, k)``, nearest first."""
    parts = [torch.cdist(part, keys).topk(min(k, len(keys)), largest=False) for part in queries.split(BLOCK)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


@dataclass(frozen=True)
class Memorization:
    """How much nearer to the training set samples lie than held-out images do.

    Attributes:
        too_near: share of samples nearer to a training image than all but ``quantile`` of the held-out images are: a
            model that draws new images has about ``quantile``, a model that copies has 1.
        z: the standard normal statistic of A Non-Parametric Test to Detect Data-Copying (arXiv:2004.05675), over the
            whole space at once (Mann-Whitney): 0 where samples and held-out images lie equally far, far below 0 where
            samples lie nearer. It grows with the number of samples.
    """

    too_near: float
    z: float
    quantile: float

    @classmethod
    def test(cls, samples: Tensor, held_out: Tensor, quantile: float = 0.01) -> "Memorization":
        """Of the distances of samples ``(N,)`` and of held-out images ``(M,)`` to their nearest training images."""
        samples, held_out = samples.double(), held_out.double()
        too_near = float((samples < held_out.quantile(quantile)).double().mean())
        ordered = held_out.sort().values
        # Of pairs (sample, held-out image), those in which the sample lies farther; a tie counts half.
        below = torch.searchsorted(ordered, samples, right=False)
        not_above = torch.searchsorted(ordered, samples, right=True)
        u = float((below + not_above).double().sum()) / 2
        n, m = len(samples), len(held_out)
        z = (u - n * m / 2) / (n * m * (n + m + 1) / 12) ** 0.5
        return cls(too_near, z, quantile)
