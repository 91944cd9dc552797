"""Sampling settings: values that can be changed whenever a trained model is sampled, independent of its weights."""

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from genlab.errors import InputError


@dataclass(frozen=True)
class Range:
    """The values of a setting that are worth a try; others may be allowed too.

    Attributes:
        low: lowest value.
        high: highest value.
        step: distance between two values.
    """

    low: float
    high: float
    step: float


def usual(default: float | None, low: float, high: float, step: float) -> Any:
    """Declare a setting with the range of values that a page to play with a model offers.

    Args:
        default: value of the setting unless another one is given.
        low: lowest value offered.
        high: highest value offered.
        step: distance between two values.
    """
    return field(default=default, metadata={"range": Range(low, high, step)})


@dataclass(frozen=True)
class SamplingSettings:
    """Sampling settings that every model has; a model with further settings defines a subclass ``Sampling``.

    Args:
        temperature: scale of the randomness: 1 samples from the model's distribution; smaller values concentrate the
            samples on likely ones.

    Raises:
        InputError: if a setting is out of range.
    """

    temperature: float = usual(1.0, 0.05, 2.0, 0.05)

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature={self.temperature}: give a number above 0")


class Tally:
    """Counts how often an adaptive solver evaluated its field, over all examples since the count began."""

    def __init__(self) -> None:
        self.total: Tensor | int = 0
        self.num = 0

    def add(self, evaluations: Tensor) -> None:
        """Add the evaluations of each example, ``(B,)``; they stay on their device."""
        self.total, self.num = self.total + evaluations.sum(), self.num + len(evaluations)

    def join(self, other: "Tally") -> None:
        """Add what another process counted."""
        self.total, self.num = int(self.total) + int(other.total), self.num + other.num

    @property
    def mean(self) -> float | None:
        """Evaluations for one example on average; None if there were no examples."""
        return round(int(self.total) / self.num, 1) if self.num else None
