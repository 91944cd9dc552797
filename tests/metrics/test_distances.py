"""Measures of features that lie far from 0, or several times in a set: what exact arithmetic gives, in NumPy."""

import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.metrics.features import Features
from genlab.metrics.memorization import nearest
from genlab.metrics.modes import GaussianModes
from genlab.metrics.quality import sample_quality
from support.running_quality import reference

OFFSETS = [0.0, 1000.0, -30000.0]


def quality(fake: Tensor, real: Tensor) -> dict[str, float]:
    results = sample_quality(Features(fake, None), reference(real))
    return {name: result.value for name, result in results.items()}


def distances(a: Tensor, b: Tensor) -> np.ndarray:
    """Distances from differences in float64, ``(N, M)``: exact for float32 numbers but for one rounding."""
    a, b = a.double().numpy(), b.double().numpy()
    return np.sqrt(np.square(a[:, None] - b[None]).sum(2))


def by_definition(fake: Tensor, real: Tensor) -> dict[str, float]:
    def radii(x: Tensor, k: int) -> np.ndarray:
        return np.sort(distances(x, x), 1)[:, k]

    between = distances(fake, real)
    of_real, of_fake = radii(real, 3), radii(fake, 3)
    within = between <= radii(real, 5)
    return {
        "precision": (between <= of_real).any(1).mean(),
        "recall": (of_fake >= between.T).any(1).mean(),
        "density": within.sum() / (5 * len(fake)),
        "coverage": within.any(0).mean(),
    }


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize("d", [2, 16, 64])
def test_precision_recall_density_and_coverage_are_those_of_exact_distances(offset: float, d: int) -> None:
    torch.manual_seed(d)
    # The spread is what float32 can resolve at the offset.
    real, fake = (offset + max(1.0, abs(offset) / 1000) * torch.randn(400, d) for _ in range(2))
    fake[:, 0] += 0.3
    found, expected = quality(fake, real), by_definition(fake, real)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


def test_clusters_far_from_each_other_are_told_apart_from_within() -> None:
    torch.manual_seed(0)
    centres = 1000 * torch.randn(5, 1, 8)
    real, fake = ((centres + torch.randn(5, 60, 8)).flatten(0, 1) for _ in range(2))
    found, expected = quality(fake, real), by_definition(fake, real)
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, abs=1e-6), name


@pytest.mark.parametrize("offset", OFFSETS)
@pytest.mark.parametrize(("distinct", "copies"), [(1, 20), (12, 20), (50, 6), (100, 2), (150, 1)])
def test_a_set_covers_itself_whatever_it_holds_twice(offset: float, distinct: int, copies: int) -> None:
    torch.manual_seed(1)
    x = (offset + torch.randn(distinct, 16)).repeat(copies, 1)[torch.randperm(distinct * copies)]
    found = quality(x, x)
    assert found["coverage"] == found["precision"] == found["recall"] == 1
    # Every ball holds its centre and the 5 nearest, and copies of the last.
    if copies == 1:
        assert found["density"] == pytest.approx(6 / 5)
    assert found["density"] >= 6 / 5 - 1e-9
    assert found["density"] == pytest.approx(by_definition(x, x)["density"])


def test_copies_of_one_image_do_not_cover_another_one() -> None:
    found = quality(torch.ones(20, 4), torch.zeros(20, 4))
    assert found["coverage"] == found["density"] == found["precision"] == found["recall"] == 0


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_kid_is_that_of_float64(offset: float) -> None:
    torch.manual_seed(2)
    real, fake = offset + torch.randn(200, 8), offset + 0.2 + torch.randn(200, 8)
    a, b = fake.double().numpy(), real.double().numpy()

    def kernel(u: np.ndarray, v: np.ndarray) -> np.ndarray:
        return (u @ v.T / 8 + 1) ** 3

    n = len(a)
    within = sum((k.sum() - np.trace(k)) / (n * (n - 1)) for k in (kernel(a, a), kernel(b, b)))
    expected = within - 2 * kernel(a, b).mean()
    assert quality(fake, real)["kid"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("offset", OFFSETS)
def test_nearest_keys_have_their_exact_distances(offset: float) -> None:
    torch.manual_seed(3)
    spread = max(0.05, abs(offset) / 10_000)
    keys = offset + spread * torch.randn(600, 64)
    queries = torch.cat([keys[:30], offset + spread * torch.randn(500, 64)])
    found, indices = nearest(queries, keys, 5)
    expected = distances(queries, keys)
    assert (found[:30, 0] == 0).all()  # copies
    assert torch.equal(indices[:30, 0], torch.arange(30))
    assert found.dtype == queries.dtype
    order = np.argsort(expected, 1)[:, :5]
    np.testing.assert_allclose(found.numpy(), np.take_along_axis(expected, order, 1), rtol=1e-6, atol=0)
    assert np.array_equal(indices.numpy(), order)


def test_points_far_from_0_are_within_a_mode_by_their_exact_distance() -> None:
    centres = torch.tensor([[4096.0, -4096.0], [4097.0, -4096.0]])
    modes = GaussianModes(centres, std=0.05)
    near, far = torch.tensor([0.125, 0.0]), torch.tensor([0.1875, 0.0])  # of 3 standard deviations, 0.15
    assert modes((centres[:1] + near).repeat(40, 1))["high_quality"] == 1
    assert modes((centres[:1] + far).repeat(40, 1))["high_quality"] == 0
