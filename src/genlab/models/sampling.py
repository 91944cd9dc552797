"""Settings of sampling: what can be chosen anew whenever a trained model is sampled, and is no part of its weights."""

import math
from dataclasses import dataclass

from genlab.errors import InputError


@dataclass(frozen=True)
class SamplingSettings:
    """Settings that every model is sampled by; a model with more of them has a class ``Sampling`` of its own.

    Args:
        temperature: scale of the randomness: 1 samples the model, and towards 0 its samples concentrate.

    Raises:
        InputError: a setting is out of its range.
    """

    temperature: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.temperature < math.inf:
            raise InputError(f"temperature={self.temperature}: give a number above 0")
