"""Sampling settings: values that can be changed whenever a trained model is sampled, independent of its weights."""

import math
from dataclasses import dataclass

from genlab.errors import InputError


@dataclass(frozen=True)
class SamplingSettings:
    """Sampling settings that every model has; a model with further settings defines a subclass ``Sampling``.

    Args:
        temperature: scale of the randomness: 1 samples from the model's distribution; smaller values concentrate the
            samples on likely ones.

    Raises:
        InputError: if a setting is out of range.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature={self.temperature}: give a number above 0")
