"""A VAE with linear networks and one standard deviation is probabilistic principal component analysis."""

import math

import pytest
import torch
from torch import Tensor

from genlab.data.holding_out import held_out
from genlab.data.mnist import MNIST
from genlab.distributions.pixel import IsotropicGaussian
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.vae import VAE
from genlab.reproduction.recipes import recipes


def second_moments(index: Tensor, levels: int, mean: Tensor | None = None) -> tuple[Tensor, Tensor]:
    """Give the mean and the covariance about a mean of ``(k + u) / levels``, where u is uniform in [0, 1)."""
    points = (index.flatten(1).double() + 0.5) / levels
    mean = points.mean(0) if mean is None else mean
    centered = points - mean
    noise = torch.eye(points.shape[1], dtype=torch.double) / 12 / levels**2
    return mean, centered.T @ centered / len(points) + noise


def ppca(covariance: Tensor, latents: int) -> tuple[Tensor, float]:
    """Give the maximum-likelihood weights ``(D, latents)`` and variance of Tipping and Bishop (1999), section 3.2."""
    values, vectors = torch.linalg.eigh(covariance)
    values, vectors = values.flip(0), vectors.flip(1)
    variance = float(values[latents:].mean())
    return vectors[:, :latents] * (values[:latents] - variance).sqrt(), variance


def nats(weights: Tensor, variance: float, covariance: Tensor, levels: int) -> float:
    """Give the mean of ``-log N(y; mean, W W^T + variance) + log levels`` over points with such a covariance."""
    D = len(weights)
    model = weights @ weights.T + variance * torch.eye(D, dtype=torch.double)
    quadratic = torch.linalg.solve(model, covariance).diagonal().sum()
    return float(0.5 * (D * math.log(2 * math.pi) + torch.linalg.slogdet(model)[1] + quadratic) + D * math.log(levels))


def pictures(num: int, generator: torch.Generator) -> Tensor:
    """Draw pictures of 4x4 with 256 grey levels, most of whose variance lies in three directions."""
    directions = torch.randn(3, 16, generator=generator)
    z = torch.randn(num, 3, generator=generator)
    points = 128 + 20 * z @ directions + 4 * torch.randn(num, 16, generator=generator)
    return points.clamp(0, 255).round().long().view(num, 1, 4, 4)


def test_with_the_weights_of_ppca_the_bound_is_the_likelihood() -> None:
    generator = torch.Generator().manual_seed(0)
    index = pictures(20_000, generator)
    mean, covariance = second_moments(index, 256)
    weights, variance = ppca(covariance, 3)
    vae = VAE((1, 4, 4), IsotropicGaussian(256), FullyConnected(()), ELBO(), latent_dim=3)
    precision = (weights.T @ weights).diagonal() + variance  # the columns of W are orthogonal
    to_mean = weights.T / precision[:, None]  # posterior mean of z is to_mean (y - mean)
    with torch.no_grad():
        vae.decoder.last.weight.copy_(weights)
        vae.decoder.last.bias.copy_(mean)
        vae.distribution.log_std.fill_(0.5 * math.log(variance))
        # The encoder sees 2 k / 255 - 1, and y is (k + 1/2) / 256 without its noise.
        scale = 255 / 2 / 256
        vae.encoder.last.weight.zero_()
        vae.encoder.last.weight[:3].copy_(to_mean * scale)
        vae.encoder.last.bias[:3].copy_(to_mean @ (scale + 0.5 / 256 - mean))
        vae.encoder.last.bias[3:].copy_(0.5 * (variance / precision).log())
        bound = -vae.log_prob(index / 255).mean()
    assert float(bound) == pytest.approx(nats(weights, variance, covariance, 256), abs=0.02)


def test_training_finds_the_likelihood_of_ppca() -> None:
    generator = torch.Generator().manual_seed(1)
    index = pictures(2000, generator)
    _, covariance = second_moments(index, 256)
    weights, variance = ppca(covariance, 3)
    torch.manual_seed(0)
    vae = VAE((1, 4, 4), IsotropicGaussian(256), FullyConnected((), center=True), ELBO(), latent_dim=3)
    x = index / 255
    vae.initialize(x)
    optimizer = torch.optim.Adam(vae.parameters(), 0.05)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, 3000)
    for _ in range(3000):
        optimizer.zero_grad()
        vae.loss(x)["loss"].backward()
        optimizer.step()
        schedule.step()
    with torch.no_grad():
        bound = -sum(float(vae.log_prob(x).mean()) for _ in range(20)) / 20
    assert bound == pytest.approx(nats(weights, variance, covariance, 256), abs=0.05)
    assert float(vae.distribution.log_std.detach().exp()) == pytest.approx(math.sqrt(variance), rel=0.01)


def test_the_recipe_holds_the_likelihood_of_ppca(mnist_root: str) -> None:
    stored = MNIST(mnist_root).load()
    chosen = held_out(stored["train"], {"val": 5000}, 0, True, "mnist")
    train, test = stored["train"].images, stored["test"].images
    assert train is not None
    assert test is not None
    mean, covariance = second_moments(train[chosen["train"]], 256)
    weights, variance = ppca(covariance, 10)
    _, of_test = second_moments(test, 256, mean)
    recipe = recipes()["exact_linear_vae"]
    assert recipe.published.figures["nll"] == pytest.approx(nats(weights, variance, of_test, 256), abs=0.01)
