"""The VAE's bound against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from genlab.distributions.pixel import Bernoulli, Categorical, PixelDistribution
from genlab.models.vae.vae import VAE

SIGMA = 0.3


class Gaussian(PixelDistribution):
    """A continuous stand-in, so that the marginal likelihood has a closed form."""

    num_params = 1

    def __init__(self) -> None:
        super().__init__(2)

    def log_prob(self, params: Tensor, x: Tensor) -> Tensor:
        return torch.distributions.Normal(params.squeeze(1), SIGMA).log_prob(x)

    def sample(self, params: Tensor, u: Tensor, temperature: float = 1.0) -> Tensor:
        return params.squeeze(1)

    def mean(self, params: Tensor) -> Tensor:
        return params.squeeze(1)


def linear_gaussian() -> tuple[VAE, Tensor, torch.distributions.Distribution]:
    """x = W z + b + noise with orthogonal W, whose posterior is diagonal; the encoder is set to it."""
    torch.manual_seed(0)
    D, d = 6, 2
    vae = VAE((1, 2, 3), Gaussian(), latent_dim=d, hidden=()).double()
    W = torch.linalg.qr(torch.randn(D, d).double())[0] * torch.tensor([1.0, 0.5]).double()
    b = torch.rand(D).double()
    precision = 1 + W.square().sum(0) / SIGMA**2
    M = (W / SIGMA**2 / precision).T  # E[z | x] = M (x - b)
    with torch.no_grad():
        vae.decoder[0].weight.copy_(W)
        vae.decoder[0].bias.copy_(b)
        # The encoder sees 2 x - 1.
        vae.encoder[0].weight.copy_(torch.cat([M / 2, torch.zeros(d, D).double()]))
        vae.encoder[0].bias.copy_(torch.cat([M @ (0.5 - b), -0.5 * precision.log()]))
    marginal = torch.distributions.MultivariateNormal(b, W @ W.T + SIGMA**2 * torch.eye(D).double())
    return vae, marginal.sample((50,)), marginal


def test_with_the_true_posterior_the_bound_is_the_likelihood() -> None:
    vae, x, marginal = linear_gaussian()
    exact = marginal.log_prob(x)
    images = x.view(-1, 1, 2, 3)
    # With q = p(z | x) every importance weight is p(x) itself, whatever z is drawn.
    torch.testing.assert_close(vae.importance_weighted(images, num_samples=1), exact, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(
        vae.importance_weighted(images, num_samples=7, chunk_size=3), exact, rtol=1e-5, atol=1e-5
    )
    # The ELBO with the analytic KL agrees on average over draws.
    elbos = torch.stack([vae.log_prob(images) for _ in range(2000)])
    error = (elbos.mean(0) - exact).abs() / (elbos.std(0) / math.sqrt(2000))
    assert error.max() < 5


def test_elbo_lies_below_the_importance_weighted_estimate() -> None:
    vae = VAE((1, 3, 3), Bernoulli(), latent_dim=3, hidden=(8,))
    for parameter in vae.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    x = torch.randint(2, (20, 1, 3, 3)).float()
    elbo = torch.stack([vae.log_prob(x) for _ in range(500)]).mean(0)
    bounds = [vae.importance_weighted(x, num_samples=k).mean() for k in (10, 5000)]
    assert elbo.mean() < bounds[0] < bounds[1] < 0


def test_importance_weighted_probabilities_sum_to_one() -> None:
    vae = VAE((1, 2, 2), Bernoulli(), latent_dim=2, hidden=(8,))
    for parameter in vae.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    for parameter in vae.encoder[-1].parameters():
        parameter.data.zero_()  # q is the prior, whose importance weights p(x | z) are bounded
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).view(-1, 1, 2, 2)
    total = vae.importance_weighted(images, num_samples=20000, chunk_size=2000).exp().sum()
    assert abs(total - 1) < 0.01


def test_kl_is_that_of_the_gaussians() -> None:
    vae = VAE((1, 2, 2), Bernoulli(), latent_dim=5, hidden=(8,))
    x = torch.rand(6, 1, 2, 2).round()
    q = torch.distributions.Normal(*vae.posterior(x))
    p = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(vae.elbo_terms(x)[1], torch.distributions.kl_divergence(q, p).sum(1))


def test_beta_weighs_the_loss_and_not_the_bound() -> None:
    x = torch.rand(6, 1, 4, 4).round()
    figures = []
    for beta in (1.0, 4.0):
        torch.manual_seed(0)
        vae = VAE((1, 4, 4), Bernoulli(), latent_dim=2, hidden=(8,), beta=beta)
        figures.append(vae.loss(x))
    torch.testing.assert_close(figures[0]["nll"], figures[1]["nll"])
    difference = (figures[1]["loss"] - figures[0]["loss"]) * 16 * math.log(2)
    torch.testing.assert_close(difference, 3 * figures[0]["kl"])


@pytest.mark.parametrize("levels", [2, 4, 256])
def test_a_uniform_model_costs_log2_levels_bits_per_dim(levels: int) -> None:
    vae = VAE((3, 4, 4), Categorical(levels), latent_dim=2, hidden=(8,))
    with torch.no_grad():
        for parameter in [*vae.encoder[-1].parameters(), *vae.decoder[-1].parameters()]:
            parameter.zero_()  # q = p, and every level alike
    x = torch.randint(levels, (5, 3, 4, 4)) / (levels - 1)
    bits = vae.bits_per_dim(-vae.log_prob(x))
    torch.testing.assert_close(bits, torch.full((5,), math.log2(levels)))


def test_pixels_are_sampled_or_averaged() -> None:
    vae = VAE((1, 4, 4), Bernoulli(), latent_dim=2, hidden=(8,))
    means = vae.sample(200, generator=torch.Generator().manual_seed(0))
    assert len(means.unique()) > 100
    vae.sample_pixels = True
    draws = vae.sample(200, generator=torch.Generator().manual_seed(0))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert abs(draws.mean() - means.mean()) < 0.03
