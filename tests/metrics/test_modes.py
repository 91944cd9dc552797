"""Mode coverage and memorization: what is counted, on sets whose modes are known."""

import math

import pytest
import torch

from genlab.data.mnist import MNIST
from genlab.errors import InputError
from genlab.metrics.memorization import Memorization, nearest
from genlab.metrics.modes import ClassModes, GaussianModes, kl_to_uniform


def test_kl_to_uniform_is_its_definition() -> None:
    assert kl_to_uniform(torch.full((8,), 5)) == pytest.approx(0, abs=1e-12)
    assert kl_to_uniform(torch.tensor([7, 0, 0, 0])) == pytest.approx(math.log(4))
    assert kl_to_uniform(torch.tensor([3, 1])) == pytest.approx(0.75 * math.log(1.5) + 0.25 * math.log(0.5))
    assert kl_to_uniform(torch.zeros(4, dtype=torch.long)) == pytest.approx(math.log(4))  # nothing reached


def test_the_ring_and_the_grid_are_where_the_papers_put_them() -> None:
    ring, grid = GaussianModes.ring(), GaussianModes.grid()
    torch.testing.assert_close(ring.centres.norm(dim=1), torch.ones(8))
    assert torch.pdist(ring.centres).min() == pytest.approx(2 * math.sin(math.pi / 8))
    assert {tuple(c) for c in grid.centres.tolist()} == {(x, y) for x in range(-4, 5, 2) for y in range(-4, 5, 2)}


@pytest.mark.parametrize("modes", [GaussianModes.ring(), GaussianModes.grid()])
def test_samples_of_the_mixture_itself_reach_every_mode(modes: GaussianModes) -> None:
    num = 20_000
    centre = modes.centres[torch.randint(modes.num_modes, (num,))]
    found = modes(centre + modes.std * torch.randn(num, 2))
    assert found["modes"] == modes.num_modes
    # Of a Gaussian in the plane, 1 - exp(-9/2) lies within three standard deviations.
    assert found["high_quality"] == pytest.approx(1 - math.exp(-4.5), abs=0.003)
    assert found["kl_to_uniform"] < 3 * (modes.num_modes - 1) / (2 * num)


def test_collapsed_and_scattered_points() -> None:
    ring = GaussianModes.ring()
    one = ring(ring.centres[3] + 0.001 * torch.randn(100, 2))
    assert (one["modes"], one["high_quality"]) == (1, 1)
    assert one["kl_to_uniform"] == pytest.approx(math.log(8))
    between = ring(torch.zeros(50, 2))
    assert (between["modes"], between["high_quality"]) == (0, 0)
    with pytest.raises(InputError, match="modes of points"):
        ring(torch.zeros(5, 1, 28, 28))


@pytest.fixture(scope="session")
def mnist_test(mnist_root: str) -> tuple[torch.Tensor, torch.Tensor]:
    test = MNIST(mnist_root).load()["test"]
    assert test.images is not None
    return test.images, test.labels


def test_real_digits_reach_ten_modes_and_one_digit_one(mnist_test: tuple[torch.Tensor, torch.Tensor]) -> None:
    images, labels = (part[:3000] for part in mnist_test)
    modes = ClassModes("mnist")
    found = modes(images)
    assert found["modes"] == 10
    assert found["kl_to_uniform"] == pytest.approx(kl_to_uniform(labels.bincount(minlength=10)), abs=0.002)
    assert found["classifier_confidence"] > 0.99
    sevens = modes(images[labels == 7])
    assert sevens["modes"] <= 3
    assert sevens["kl_to_uniform"] > 2
    assert modes.protocol["classifier_test_accuracy"] >= 0.993


def test_stacked_digits_reach_the_thousand_modes(mnist_test: tuple[torch.Tensor, torch.Tensor]) -> None:
    """On stacks of real digits the count and the divergence are those of the true labels."""
    images, labels = mnist_test
    num = 4000
    index = torch.randint(len(images), (num, 3))
    stacked = images[index].squeeze(2)
    assert stacked.shape == (num, 3, 28, 28)
    modes = ClassModes("mnist", stacked=True, channels=3)
    assert modes.num_modes == 1000
    true = (labels[index] * torch.tensor([1, 10, 100])).sum(1).bincount(minlength=1000)
    found = modes(stacked)
    assert found["modes"] == pytest.approx(int((true > 0).sum()), abs=5)
    assert found["kl_to_uniform"] == pytest.approx(kl_to_uniform(true), abs=0.01)
    one = stacked.clone()
    one[:, 1:] = one[:1, 1:]  # two channels collapsed
    assert modes(one)["modes"] <= 12
    with pytest.raises(InputError, match="stacked digits of 3 channels"):
        modes(images[:10])


# -- memorization ------------------------------------------------------------------------------------------------------


def test_nearest_neighbours_by_brute_force() -> None:
    queries, keys = torch.randn(1203, 5), torch.randn(400, 5)
    distances, indices = nearest(queries, keys, 3)
    every = (queries.unsqueeze(1) - keys).norm(dim=2).sort(1)
    torch.testing.assert_close(distances, every.values[:, :3], atol=1e-4, rtol=1e-4)
    assert (indices == every.indices[:, :3]).float().mean() > 0.999
    assert nearest(queries[:2], keys[:2], 5)[0].shape == (2, 2)


def to_train(x: torch.Tensor, train: torch.Tensor) -> torch.Tensor:
    return nearest(x, train)[0][:, 0]


@pytest.mark.parametrize("copied", [0.0, 0.2, 1.0])
def test_a_model_that_copies_the_training_set_is_caught(copied: float) -> None:
    train, held_out, fresh = torch.randn(2000, 16), torch.randn(1000, 16), torch.randn(1000, 16)
    fresh[: int(1000 * copied)] = train[: int(1000 * copied)] + 1e-3 * torch.randn(int(1000 * copied), 16)
    test = Memorization.test(to_train(fresh, train), to_train(held_out, train))
    assert test.too_near == pytest.approx(copied + (1 - copied) * test.quantile, abs=0.02)
    assert (test.z < -5) == (copied > 0)


def test_z_is_a_standard_normal_of_two_alike_sets_and_scipys_mann_whitney() -> None:
    from scipy.stats import mannwhitneyu

    zs = [Memorization.test(torch.rand(200), torch.rand(300)).z for _ in range(300)]
    assert abs(sum(zs) / len(zs)) < 0.2
    assert torch.tensor(zs).std() == pytest.approx(1, abs=0.15)
    a, b = torch.rand(200), 0.9 * torch.rand(300)
    u = mannwhitneyu(a.numpy(), b.numpy()).statistic
    expected = (u - 200 * 300 / 2) / (200 * 300 * 501 / 12) ** 0.5
    assert Memorization.test(a, b).z == pytest.approx(expected, rel=1e-6)
