"""The Fréchet distance against closed forms and an independent computation."""

import numpy as np
import torch

from genlab.metrics.features import Pixels
from genlab.metrics.frechet import Gaussian, frechet_distance


def test_closed_form_of_commuting_gaussians() -> None:
    a = Gaussian(torch.zeros(3).double(), torch.diag(torch.tensor([1.0, 4.0, 9.0])).double(), 10)
    b = Gaussian(torch.tensor([1.0, 0.0, 2.0]).double(), torch.diag(torch.tensor([4.0, 4.0, 1.0])).double(), 10)
    # |m|^2 + sum of (sigma_a - sigma_b)^2 = 5 + 1 + 0 + 4.
    assert abs(frechet_distance(a, b) - 10) < 1e-9


def test_agrees_with_scipys_matrix_root() -> None:
    from scipy.linalg import sqrtm

    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(200, 12)), rng.normal(size=(150, 12)) @ rng.normal(size=(12, 12)) + 0.3
    m, c, n, d = x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)
    expected = np.square(m - n).sum() + np.trace(c + d - 2 * np.real(sqrtm(c @ d)))
    found = frechet_distance(*(Gaussian.fit(torch.from_numpy(s)) for s in (x, y)))
    assert abs(found / expected - 1) < 1e-9


def test_of_a_set_with_itself_is_zero_also_with_fewer_samples_than_features() -> None:
    for n in (20, 500):
        features = Gaussian.fit(torch.randn(n, 64))
        assert frechet_distance(features, features) < 1e-6


def test_grows_with_noise() -> None:
    x = torch.rand(500, 1, 8, 8)
    real = Gaussian.fit(Pixels()(x))
    distances = [
        frechet_distance(Gaussian.fit(Pixels()(x + s * torch.randn_like(x))), real) for s in (0.0, 0.1, 0.3, 1.0)
    ]
    assert distances == sorted(distances)


def test_pixels_are_block_means() -> None:
    x = torch.rand(2, 1, 28, 28)
    assert Pixels()(x).shape == (2, 196)
    assert torch.allclose(Pixels()(x)[:, 0], x[:, 0, :2, :2].mean((1, 2)))
    assert Pixels()(torch.rand(2, 3, 32, 32)).shape[1] <= 256
    assert torch.equal(Pixels()(x[..., :8, :8]), x[..., :8, :8].flatten(1))
