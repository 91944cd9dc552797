"""Is a difference more than seed noise? Confidence intervals over seeds, and the number of further seeds to decide.

Two settings whose runs have the same seeds are compared seed by seed (Student's paired t-test); others by their means
(Welch's t-test, "The generalization of Student's problem when several different population variances are involved",
1947). A published value has no seeds: the mean of the seeds is compared with it.
"""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

LEVEL = 0.95  # confidence level of an interval, or of all intervals of one table together
ASSURANCE = 0.8  # probability with which the promised number of further seeds is enough
MOST = 100  # largest number of further seeds that is promised
_DRAWS = 512  # of the unknown means and standard deviations


@dataclass(frozen=True)
class Difference:
    """A difference of two settings with its confidence interval.

    Attributes:
        value: mean of the second setting minus that of the first.
        half_width: half the width of the confidence interval, in the unit of the value.
        level: confidence level of the interval.
        num: number of seeds: of pairs, or of the setting with fewer runs.
        paired: whether runs of the same seed were compared with each other.
        further: number of further seeds of each setting after which the difference is expected to be separable; None
            if it is separable already, or if more than :data:`MOST` would be needed.
    """

    value: float
    half_width: float
    level: float
    num: int
    paired: bool
    further: int | None = None

    @property
    def separable(self) -> bool:
        """Tell whether the confidence interval excludes zero."""
        return abs(self.value) > self.half_width


@dataclass(frozen=True)
class _Sample:
    """Number, mean and sum of squared deviations of some values; arrays stand for many samples at once."""

    num: int
    mean: Any
    squares: Any

    @classmethod
    def of(cls, values: Sequence[float]) -> "_Sample":
        mean = statistics.fmean(values) if values else math.nan
        return cls(len(values), mean, sum((value - mean) ** 2 for value in values))

    def joined(self, other: "_Sample") -> "_Sample":
        num = self.num + other.num
        between = (other.mean - self.mean) ** 2 * self.num * other.num / num
        mean = (self.num * self.mean + other.num * other.mean) / num
        return _Sample(num, mean, self.squares + other.squares + between)


def difference(
    first: Mapping[Any, float] | float, second: Mapping[Any, float], comparisons: int = 1
) -> Difference | None:
    """Compute how much a second setting differs from a first, with a confidence interval.

    If each seed of the setting with fewer runs also has a run of the other setting, only these pairs count.

    Args:
        first: values of the first setting by seed, or a number that has no seeds, such as a published one.
        second: values of the second setting by seed.
        comparisons: number of comparisons whose intervals shall hold together with probability :data:`LEVEL`; the level
            of each is raised accordingly (Bonferroni).

    Returns:
        The difference; None if a value is not finite, or if a setting has fewer than two seeds.
    """
    if not all(map(math.isfinite, [*(first.values() if isinstance(first, Mapping) else [first]), *second.values()])):
        return None
    paired = False
    if not isinstance(first, Mapping):
        samples = [_Sample.of([value - first for value in second.values()])]
    elif (common := first.keys() & second.keys()) and len(common) == min(len(first), len(second)):
        samples, paired = [_Sample.of([second[seed] - first[seed] for seed in common])], True
    else:
        samples = [_Sample.of([*second.values()]), _Sample.of([*first.values()])]
    num = min(sample.num for sample in samples)
    if num < 2:
        return None
    from scipy.special import stdtrit

    level = 1 - (1 - LEVEL) / comparisons
    value, error, freedom = _statistics(samples)
    half_width = float(stdtrit(freedom, 0.5 + level / 2) * error)
    further = None if abs(value) > half_width else _further(samples, level)
    return Difference(float(value), half_width, level, num, paired, further)


def _statistics(samples: Sequence[_Sample]) -> tuple[Any, Any, Any]:
    """Compute the mean of one sample or the difference of two means, its standard error and its degrees of freedom."""
    variances = [sample.squares / (sample.num - 1) / sample.num for sample in samples]
    variance = sum(variances)
    if len(samples) == 1:
        return samples[0].mean, np.sqrt(variance), samples[0].num - 1
    shares = [one / np.maximum(variance, np.finfo(float).tiny) for one in variances]  # 0, not 0 / 0, without any noise
    inverse = sum(share**2 / (sample.num - 1) for share, sample in zip(shares, samples, strict=True))
    freedom = 1 / np.maximum(inverse, 1 / sum(sample.num - 1 for sample in samples))
    return samples[0].mean - samples[1].mean, np.sqrt(variance), freedom


def _further(samples: Sequence[_Sample], level: float) -> int | None:
    """Find how many further seeds of each setting will separate them with probability :data:`ASSURANCE`.

    The probability is that of the Bayesian predictive distribution: means and standard deviations of the settings are
    drawn from their posterior given the seeds so far, under the usual uninformative prior, and more seeds from these.
    A difference or a standard deviation that was only estimated is thus not taken for the true one.
    """
    from scipy.special import stdtr

    def probability(further: int) -> float:
        draw = np.random.default_rng(0)  # the same means for each number
        later = []
        for sample in samples:
            variance = sample.squares / draw.chisquare(sample.num - 1, _DRAWS)
            mean = sample.mean + np.sqrt(variance / sample.num) * draw.standard_normal(_DRAWS)
            mean_of_further = mean + np.sqrt(variance / further) * draw.standard_normal(_DRAWS)
            squares = variance * draw.chisquare(further - 1, _DRAWS) if further > 1 else np.zeros(_DRAWS)
            later.append(sample.joined(_Sample(further, mean_of_further, squares)))
        value, error, freedom = _statistics(later)
        return float(np.mean(stdtr(freedom, -np.abs(value) / error) < (1 - level) / 2))

    if all(sample.squares == 0 for sample in samples) or probability(MOST) < ASSURANCE:
        return None
    low, high = 0, MOST  # too few, enough
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if probability(middle) >= ASSURANCE else (middle, high)
    return high
