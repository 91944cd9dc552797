"""Averages of any width, put together from snapshots of two."""

import math

import numpy as np
import pytest
import torch

from genlab.models.power_average import Snapshot, _products, coefficients, decay_at, gamma_of


def weights(steps: int, gamma: float) -> torch.Tensor:
    """Weights of steps 1 to ``steps`` in the average as it is computed step by step, ``(steps,)``."""
    found = torch.zeros(steps, dtype=torch.float64)
    for t in range(1, steps + 1):
        decay = decay_at(t, gamma)
        found *= decay
        found[t - 1] += 1 - decay
    return found


@pytest.mark.parametrize("width", [0.01, 0.05, 0.1, 0.2, 0.28])
def test_an_average_has_its_width(width: float) -> None:
    gamma = gamma_of(width)
    assert (gamma + 1) ** 0.5 / ((gamma + 2) * (gamma + 3) ** 0.5) == pytest.approx(width, rel=1e-6)
    steps = 4000
    found = weights(steps, gamma)
    assert float(found.sum()) == pytest.approx(1)
    s = torch.arange(1, steps + 1, dtype=torch.float64)
    mean = (found * s).sum()
    std = (found * (s - mean).square()).sum().sqrt()
    assert float(std) / steps == pytest.approx(width, rel=0.02)


def test_products_are_integrals() -> None:
    grid = (np.arange(400_000) + 0.5) / 400_000 * 50
    some = [Snapshot(20, 16.97), Snapshot(50, 6.94), Snapshot(35, 0.0)]
    density = [np.where(grid < one.steps, (one.gamma + 1) * grid**one.gamma / one.steps ** (one.gamma + 1.0), 0)
               for one in some]  # fmt: skip
    expected = [[float((a * b).mean() * 50) for b in density] for a in density]
    np.testing.assert_allclose(_products(some, some), expected, rtol=1e-3)


def test_products_of_long_trainings_are_finite() -> None:
    many = [Snapshot(steps, gamma_of(width)) for steps in (10_000, 1_000_000) for width in (0.01, 0.1)]
    assert np.isfinite(_products(many, many)).all()


@pytest.mark.parametrize("width", [0.06, 0.08, 0.15])
def test_a_width_that_was_not_kept_is_put_together(width: float) -> None:
    """From eight snapshots of a walk, nearer to the average computed step by step than any snapshot is."""
    steps, every = 800, 100
    walk = torch.randn(steps, 5, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).cumsum(0)
    kept = [Snapshot(t, gamma_of(w)) for t in range(every, steps + 1, every) for w in (0.05, 0.1)]
    values = torch.stack([weights(one.steps, one.gamma) @ walk[: one.steps] for one in kept])
    found = coefficients(kept, Snapshot(steps, gamma_of(width))) @ values
    expected = weights(steps, gamma_of(width)) @ walk
    nearest = (values - expected).norm(dim=1).min()
    assert (found - expected).norm() < 0.2 * nearest


def test_a_width_that_was_kept_is_its_snapshot() -> None:
    kept = [Snapshot(t, gamma_of(w)) for t in (50, 100) for w in (0.05, 0.1)]
    found = coefficients(kept, Snapshot(100, gamma_of(0.1)))
    torch.testing.assert_close(found, torch.tensor([0.0, 0.0, 0.0, 1.0], dtype=torch.float64), rtol=0, atol=1e-6)


@pytest.mark.parametrize("width", [0.0, -0.1, 0.29, math.nan])
def test_widths_that_no_average_has(width: float) -> None:
    with pytest.raises(ValueError, match="no average has the width"):
        gamma_of(width)
