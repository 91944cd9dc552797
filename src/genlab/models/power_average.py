"""Averages of weights whose width is chosen after the training.

Analyzing and Improving the Training Dynamics of Diffusion Models (EDM2, arXiv:2312.02696), section 3.

A power function average weighs the weights of step s, on the way to step t, by ``(gamma + 1) s^gamma / t^(gamma + 1)``.
Its width, the standard deviation of s as a share of t, decides how much of the training it remembers. Snapshots of two
such averages, taken now and then, are enough to put together the average of any width: a weighted sum whose weights
over steps come nearest to the wanted ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

WIDEST = 0.28  # of an average with equal weights of all steps it is 0.289


@dataclass(frozen=True)
class Snapshot:
    """Length and exponent of an average, which decide how it weighs the steps.

    Attributes:
        steps: number of steps t up to which it goes.
        gamma: its exponent.
    """

    steps: int
    gamma: float


def gamma_of(width: float) -> float:
    """Compute the exponent of the average of a width, relative to the number of steps: algorithm 2.

    Raises:
        ValueError: if the width is not above 0 and at most 0.28.
    """
    if not 0 < width <= WIDEST:
        raise ValueError(f"no average has the width {width}: it lies above 0 and is at most {WIDEST}")
    square = width**-2
    roots = np.roots([1, 7, 16 - square, 12 - square])
    return max(float(roots[np.isreal(roots)].real.max()), 0.0)


def decay_at(steps: int, gamma: float) -> float:
    """Compute the share of the average that step number ``steps``, from 1, leaves: equation 127."""
    return (1 - 1 / steps) ** (gamma + 1)


def _products(a: Sequence[Snapshot], b: Sequence[Snapshot]) -> np.ndarray:
    """Compute the integrals of the products of weights over steps, ``(len(a), len(b))``."""
    rows = []
    for one in a:
        row = []
        for other in b:
            first = min(one.steps, other.steps)
            # Relative to the shorter way, so that nothing overflows.
            shorter = first / max(one.steps, other.steps)
            longer_gamma = other.gamma if other.steps > one.steps else one.gamma
            size = (one.gamma + 1) * (other.gamma + 1) / ((one.gamma + other.gamma + 1) * first)
            row.append(size * shorter ** (longer_gamma + 1))
        rows.append(row)
    return np.array(rows)


def coefficients(kept: Sequence[Snapshot], wanted: Snapshot) -> Tensor:
    """Compute the weights with which snapshots sum to an average, float64 ``(len(kept),)``: algorithm 3.

    They minimize the squared difference of the weights over steps.

    Args:
        kept: snapshots of averages.
        wanted: average to put together.
    """
    found, *_ = np.linalg.lstsq(_products(kept, kept), _products(kept, [wanted])[:, 0], rcond=None)
    return torch.from_numpy(found)
