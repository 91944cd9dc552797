"""Verdicts over seeds: intervals against SciPy's tests, and their promises on simulated seeds whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from genlab.comparison.seed_noise import ASSURANCE, difference

DRAWS = 2000


def seeds(values: np.ndarray, first: int = 0) -> dict[int, float]:
    return dict(enumerate(map(float, values), start=first))


@pytest.mark.parametrize("num", [2, 3, 10])
def test_interval_of_pairs_is_that_of_the_paired_t_test(num: int) -> None:
    draw = np.random.default_rng(num)
    a, b = draw.normal(size=num), draw.normal(1, 2, size=num)
    found = difference(seeds(a), seeds(b))
    expected = stats.ttest_rel(b, a).confidence_interval()
    assert found is not None
    assert found.paired
    assert found.num == num
    assert (found.value - found.half_width, found.value + found.half_width) == pytest.approx(tuple(expected))


@pytest.mark.parametrize(("num_a", "num_b"), [(2, 3), (5, 5), (10, 3)])
def test_interval_of_other_seeds_is_that_of_welchs_t_test(num_a: int, num_b: int) -> None:
    draw = np.random.default_rng(num_a)
    a, b = draw.normal(size=num_a), draw.normal(1, 5, size=num_b)
    found = difference(seeds(a), seeds(b, first=100))
    expected = stats.ttest_ind(b, a, equal_var=False).confidence_interval()
    assert found is not None
    assert not found.paired
    assert found.num == min(num_a, num_b)
    assert (found.value - found.half_width, found.value + found.half_width) == pytest.approx(tuple(expected))


def test_interval_about_a_published_value_is_that_of_one_sample() -> None:
    values = np.random.default_rng(0).normal(size=5)
    found = difference(0.25, seeds(values))
    expected = stats.ttest_1samp(values, 0.25).confidence_interval()  # of the mean of the values
    assert found is not None
    assert 0.25 + found.value == pytest.approx(values.mean())
    assert found.half_width == pytest.approx((expected.high - expected.low) / 2)


def test_fewer_seeds_are_paired_if_each_has_its_pair() -> None:
    a, b = {0: 1.0, 1: 2.0, 2: 3.0, 3: 100.0}, {1: 2.5, 2: 3.6}
    found = difference(a, b)
    assert found is not None
    assert found.paired
    assert found.num == 2
    assert found.value == pytest.approx(0.55)


def test_several_comparisons_have_wider_intervals() -> None:
    a, b = seeds(np.array([1.0, 2.0, 3.0])), seeds(np.array([2.0, 3.5, 4.0]))
    one, ten = difference(a, b), difference(a, b, comparisons=10)
    assert one is not None
    assert ten is not None
    assert ten.half_width == pytest.approx(one.half_width * stats.t.ppf(0.9975, 2) / stats.t.ppf(0.975, 2))


def test_no_interval_without_noise_to_know() -> None:
    assert difference({0: 1.0}, {0: 2.0}) is None
    assert difference({0: 1.0, 1: 2.0}, {0: 2.0}) is None
    assert difference({0: 1.0, 1: float("nan")}, {0: 2.0, 1: 2.0}) is None
    same = difference({0: 1.0, 1: 2.0}, {0: 1.0, 1: 2.0})
    assert same is not None
    assert not same.separable
    assert same.further is None


@pytest.mark.parametrize("paired", [True, False])
@pytest.mark.parametrize("num", [3, 5, 10])
def test_verdicts_hold_on_simulated_seeds(num: int, paired: bool) -> None:
    """Seeds of two settings with the standard deviation 1 whose means are 0, 1 and 2 standard deviations apart.

    A setting that is not better is called better in at most 6 % of 2,000 draws (5 % and the error of 2,000 draws), and
    after the promised number of further seeds, at least 80 % of the pairs that truly differ are separable.
    """
    draw = np.random.default_rng(num)
    for apart in (0.0, 1.0, 2.0):
        false_better, promised, kept = 0, 0, 0
        for _ in range(DRAWS):
            a, b = draw.normal(size=num), draw.normal(apart, size=num)
            offset = 0 if paired else 10_000
            found = difference(seeds(a), seeds(b, offset))
            assert found is not None
            if found.separable:
                false_better += apart == 0 or found.value < 0
            elif apart > 0 and found.further is not None:
                promised += 1
                more_a, more_b = draw.normal(size=found.further), draw.normal(apart, size=found.further)
                later = difference(seeds(np.append(a, more_a)), seeds(np.append(b, more_b), offset))
                assert later is not None
                kept += later.separable
        assert false_better <= 0.06 * DRAWS
        assert kept >= ASSURANCE * promised, f"{kept} of {promised} promises at {apart}"
