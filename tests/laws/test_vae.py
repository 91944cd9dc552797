"""The VAE's bounds, posteriors, priors and objectives against closed forms."""

import math

import pytest
import torch
from torch import Tensor

from genlab.distributions.pixel import Bernoulli, Categorical, PixelDistribution
from genlab.errors import InputError
from genlab.layers.masked_linear import AutoregressiveNet
from genlab.models.vae.networks import Convolutional, FullyConnected
from genlab.models.vae.objectives import ELBO, IWAE, BetaTC, InfoVAE, decomposed_kl, mmd2, systematic
from genlab.models.vae.posteriors import DiagonalGaussian, Gaussian, InverseAutoregressiveFlows, PlanarFlows, planar
from genlab.models.vae.priors import StandardNormal, VampPrior
from genlab.models.vae.vae import VAE

SIGMA = 0.3


class Normal(PixelDistribution):
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

    def fit(self, x: Tensor) -> Tensor:
        return x.mean(0, keepdim=True)


def linear_gaussian() -> tuple[VAE, Tensor, torch.distributions.Distribution]:
    """x = W z + b + noise with orthogonal W, whose posterior is diagonal; the encoder is set to it."""
    torch.manual_seed(0)
    D, d = 6, 2
    vae = VAE((1, 2, 3), Normal(), FullyConnected(()), ELBO(), latent_dim=d).double()
    W = torch.linalg.qr(torch.randn(D, d).double())[0] * torch.tensor([1.0, 0.5]).double()
    b = torch.rand(D).double()
    precision = 1 + W.square().sum(0) / SIGMA**2
    M = (W / SIGMA**2 / precision).T  # E[z | x] = M (x - b)
    with torch.no_grad():
        vae.decoder.last.weight.copy_(W)
        vae.decoder.last.bias.copy_(b)
        # The encoder sees 2 x - 1.
        vae.encoder.last.weight.copy_(torch.cat([M / 2, torch.zeros(d, D).double()]))
        vae.encoder.last.bias.copy_(torch.cat([M @ (0.5 - b), -0.5 * precision.log()]))
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
    vae = VAE((1, 3, 3), Bernoulli(), FullyConnected((8,)), ELBO(), latent_dim=3)
    for parameter in vae.parameters():
        parameter.data += 0.5 * torch.randn_like(parameter)
    x = torch.randint(2, (20, 1, 3, 3)).float()
    elbo = torch.stack([vae.log_prob(x) for _ in range(500)]).mean(0)
    bounds = [vae.importance_weighted(x, num_samples=k).mean() for k in (10, 5000)]
    assert elbo.mean() < bounds[0] < bounds[1] < 0


def test_importance_weighted_probabilities_sum_to_one() -> None:
    vae = VAE((1, 2, 2), Bernoulli(), FullyConnected((8,)), ELBO(), latent_dim=2)
    for parameter in vae.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    for parameter in vae.encoder.last.parameters():
        parameter.data.zero_()  # q is the prior, whose importance weights p(x | z) are bounded
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).view(-1, 1, 2, 2)
    total = vae.importance_weighted(images, num_samples=20000, chunk_size=2000).exp().sum()
    assert abs(total - 1) < 0.01


def test_kl_is_that_of_the_gaussians() -> None:
    vae = VAE((1, 2, 2), Bernoulli(), FullyConnected((8,)), ELBO(), latent_dim=5)
    x = torch.rand(6, 1, 2, 2).round()
    q = torch.distributions.Normal(*vae.gaussian(x))
    p = torch.distributions.Normal(0.0, 1.0)
    torch.testing.assert_close(vae.elbo_terms(x)[1], torch.distributions.kl_divergence(q, p))


def test_beta_weighs_the_loss_and_not_the_bound() -> None:
    x = torch.rand(6, 1, 4, 4).round()
    figures = []
    for beta in (1.0, 4.0):
        torch.manual_seed(0)
        vae = VAE((1, 4, 4), Bernoulli(), FullyConnected((8,)), objective=ELBO(beta), latent_dim=2)
        figures.append(vae.loss(x))
    torch.testing.assert_close(figures[0]["nll"], figures[1]["nll"])
    difference = (figures[1]["loss"] - figures[0]["loss"]) * 16 * math.log(2)
    torch.testing.assert_close(difference, 3 * figures[0]["kl"])


@pytest.mark.parametrize("levels", [2, 4, 256])
def test_a_uniform_model_costs_log2_levels_bits_per_dim(levels: int) -> None:
    vae = VAE((3, 4, 4), Categorical(levels), FullyConnected(), ELBO(), latent_dim=2)
    with torch.no_grad():
        for parameter in [*vae.encoder.last.parameters(), *vae.decoder.last.parameters()]:
            parameter.zero_()  # q = p, and every level alike
    x = torch.randint(levels, (5, 3, 4, 4)) / (levels - 1)
    bits = vae.bits_per_dim(-vae.log_prob(x))
    torch.testing.assert_close(bits, torch.full((5,), math.log2(levels)))


def test_pixels_are_sampled_or_averaged() -> None:
    vae = VAE((1, 4, 4), Bernoulli(), FullyConnected((8,)), ELBO(), latent_dim=2)
    means = vae.sample(200, generator=torch.Generator().manual_seed(0))
    assert len(means.unique()) > 100
    vae.sample_pixels = True
    draws = vae.sample(200, generator=torch.Generator().manual_seed(0))
    assert set(draws.unique().tolist()) == {0.0, 1.0}
    assert abs(draws.mean() - means.mean()) < 0.03


# -- bounds ------------------------------------------------------------------------------------------------------------


def test_the_bound_of_more_draws_is_higher_and_goes_to_the_likelihood() -> None:
    vae, x, marginal = linear_gaussian()
    images = x.view(-1, 1, 2, 3)
    with torch.no_grad():  # a posterior that is wrong, and too wide
        vae.encoder.last.bias += torch.tensor([0.3, -0.3, 0.5, 0.5]).double()
    bounds = []
    for k in (1, 5, 50):
        vae.objective = IWAE(k)
        bounds.append(-torch.stack([vae.loss(images)["nll"] for _ in range(400)]).mean())
    exact = marginal.log_prob(x)
    assert bounds[0] < bounds[1] < bounds[2] < exact.mean()
    assert exact.mean() - bounds[2] < 0.2 * (exact.mean() - bounds[0])
    torch.testing.assert_close(vae.importance_weighted(images, num_samples=50_000), exact, atol=0.05, rtol=0)


def gradients(vae: VAE, x: Tensor, draws: int) -> tuple[Tensor, Tensor]:
    """Of many draws of the loss, ``(draws, P)``: of the encoder's weights, of the decoder's."""
    found = []
    for _ in range(draws):
        vae.zero_grad()
        vae.loss(x)["loss"].backward()
        found.append([torch.cat([p.grad.flatten() for p in net.parameters()]) for net in (vae.encoder, vae.decoder)])
    return tuple(torch.stack(of) for of in zip(*found, strict=True))  # type: ignore[return-value]


def test_the_doubly_reparameterized_gradient_is_unbiased_and_of_lower_variance() -> None:
    vae, x, _ = linear_gaussian()
    with torch.no_grad():
        vae.encoder.last.bias += torch.tensor([0.2, -0.2, 0.3, 0.3]).double()
    images, draws = x[:4].view(-1, 1, 2, 3), 1500
    plain, doubly = (gradients(with_objective(vae, IWAE(8, double)), images, draws) for double in (False, True))
    for a, b in zip(plain, doubly, strict=True):
        standard_error = ((a.var(0) + b.var(0)) / draws).sqrt()
        assert ((a.mean(0) - b.mean(0)).abs() / standard_error.clamp_min(1e-12)).max() < 5
    assert doubly[0].var(0).mean() < 0.7 * plain[0].var(0).mean()


def with_objective(vae: VAE, objective: IWAE) -> VAE:
    vae.objective = objective
    return vae


def test_the_loss_of_the_doubly_reparameterized_estimator_is_the_bound() -> None:
    vae, x, _ = linear_gaussian()
    images = x.view(-1, 1, 2, 3)
    figures = []
    for double in (False, True):
        torch.manual_seed(0)
        figures.append(with_objective(vae, IWAE(5, double)).loss(images))
    torch.testing.assert_close(figures[0]["loss"], figures[1]["loss"])
    torch.testing.assert_close(figures[0]["nll"], figures[1]["nll"])


def test_the_gradient_of_a_few_draws_chosen_by_their_weights_is_unbiased() -> None:
    vae, x, _ = linear_gaussian()
    with torch.no_grad():
        vae.encoder.last.bias += torch.tensor([0.2, -0.2, 0.3, 0.3]).double()
    images, draws = x[:4].view(-1, 1, 2, 3), 3000
    all_of_them = gradients(with_objective(vae, IWAE(8)), images, draws)
    for num in (1, 3):
        few = gradients(with_objective(vae, IWAE(8, backward_draws=num)), images, draws)
        for a, b in zip(all_of_them, few, strict=True):
            standard_error = ((a.var(0) + b.var(0)) / draws).sqrt()
            assert ((a.mean(0) - b.mean(0)).abs() / standard_error.clamp_min(1e-12)).max() < 5
    torch.manual_seed(0)
    whole = with_objective(vae, IWAE(8)).loss(images)
    torch.manual_seed(0)
    part = with_objective(vae, IWAE(8, backward_draws=2)).loss(images)
    for name, value in whole.items():
        torch.testing.assert_close(part[name], value)
    for wrong in ({"backward_draws": 8}, {"backward_draws": 0}, {"backward_draws": 2, "doubly_reparameterized": True}):
        with pytest.raises(InputError):
            IWAE(8, **wrong)  # type: ignore[arg-type]


def test_systematic_choice_takes_each_draw_by_its_weight() -> None:
    weights = torch.softmax(torch.randn(6, 3), 0)
    counts = torch.zeros(6, 3)
    for _ in range(2000):
        chosen = systematic(weights, 4)
        once = torch.zeros(6, 3).scatter_add_(0, chosen, torch.ones(4, 3))
        assert ((once - 4 * weights).abs() < 1).all()  # no more than one off, ever
        counts += once
    torch.testing.assert_close(counts / 8000, weights, atol=0.02, rtol=0)
    only = torch.zeros(5, 1).index_fill_(0, torch.tensor([4]), 1.0)
    assert systematic(only, 3).eq(4).all()


def test_one_importance_sample_is_the_elbo() -> None:
    vae, x, _ = linear_gaussian()
    images = x.view(-1, 1, 2, 3)
    vae.objective = IWAE(1)
    one = torch.stack([vae.loss(images)["nll"] for _ in range(500)])
    vae.objective = ELBO()
    elbo = torch.stack([vae.loss(images)["nll"] for _ in range(500)])
    assert (one.mean() - elbo.mean()).abs() < 5 * ((one.var() + elbo.var()) / 500).sqrt()


# -- posteriors --------------------------------------------------------------------------------------------------------


def test_densities_of_many_gaussians_agree_with_one_by_one() -> None:
    q = Gaussian(torch.randn(5, 3), torch.rand(5, 3) + 0.1)
    z = torch.randn(7, 3)
    each = torch.stack([torch.distributions.Normal(m, s).log_prob(z).sum(1) for m, s in zip(*q, strict=True)], 1)
    torch.testing.assert_close(q.log_prob_each(z), each, atol=1e-4, rtol=1e-4)


def test_an_autoregressive_net_sees_the_dimensions_before() -> None:
    net = AutoregressiveNet(5, [17, 16], 2, context=3)
    z, context = torch.randn(5, requires_grad=True), torch.randn(3, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda z: net(z, context), z)  # (D, 2, D)
    seen = jacobian.abs().sum(1) > 0
    assert torch.equal(seen, torch.ones(5, 5).tril(-1).bool())
    (of_context,) = torch.autograd.grad(net(z, context)[0].sum(), context, allow_unused=True)
    assert of_context.abs().sum() == 0 or of_context.abs().min() > 0  # output 0 has hidden units of degree 0 alone


@pytest.mark.parametrize("posterior", [DiagonalGaussian(), PlanarFlows(3), InverseAutoregressiveFlows(4, 2, 16, 5)])
def test_a_posteriors_density_is_that_of_its_map(posterior: DiagonalGaussian) -> None:
    """log q(z) = log N(noise) - log |det dz / dnoise|, with the determinant of autograd's Jacobian."""
    torch.manual_seed(3)
    posterior = posterior.double()
    D = 4
    h = 2 * torch.randn(1, posterior.num_params(D)).double()
    noise = torch.randn(6, 1, D).double()
    _, log_q = posterior.draw(h, noise)

    def to_z(e: Tensor) -> Tensor:
        return posterior.draw(h, e.view(1, 1, D))[0].flatten()

    for i in range(6):
        jacobian = torch.autograd.functional.jacobian(to_z, noise[i, 0])
        base = torch.distributions.Normal(0.0, 1.0).log_prob(noise[i, 0]).sum()
        torch.testing.assert_close(log_q[i, 0], base - torch.linalg.slogdet(jacobian).logabsdet)


def test_planar_maps_are_one_to_one_whatever_the_parameters() -> None:
    z = torch.linspace(-8, 8, 4001).view(-1, 1, 1).double()
    for u, w, b in 4 * torch.randn(20, 3).double():
        mapped, _ = planar(z, u.view(1, 1), w.view(1, 1), b.view(1))
        assert (mapped.flatten().diff() > 0).all()


@pytest.mark.parametrize("posterior", [PlanarFlows(4), InverseAutoregressiveFlows(1, 2, 8, 2)])
def test_a_flow_posterior_integrates_to_one(posterior: PlanarFlows) -> None:
    posterior = posterior.double()
    h = torch.randn(1, posterior.num_params(1)).double()
    noise = torch.linspace(-9, 9, 20001).double()
    z, log_q = posterior.draw(h, noise.view(-1, 1, 1))
    order = z.flatten().argsort()
    total = torch.trapezoid(log_q.flatten()[order].exp(), z.flatten()[order])
    torch.testing.assert_close(total, torch.ones(()).double(), atol=1e-3, rtol=0)


# -- priors ------------------------------------------------------------------------------------------------------------


def test_the_vamp_prior_is_the_mean_of_posteriors_and_integrates_to_one() -> None:
    prior = VampPrior((1, 2, 2), num_components=3)
    vae = VAE((1, 2, 2), Bernoulli(), FullyConnected((8,)), ELBO(), prior=prior, latent_dim=1)
    z = torch.linspace(-12, 12, 4001).view(-1, 1)
    density = vae.log_prior(z).exp()
    torch.testing.assert_close(torch.trapezoid(density, z.squeeze(1)), torch.ones(()), atol=1e-3, rtol=0)
    q = vae.gaussian(torch.sigmoid(prior.logits))
    mean = torch.distributions.Normal(q.mean.T, q.std.T).log_prob(z).exp().mean(1)
    torch.testing.assert_close(density, mean, atol=1e-5, rtol=1e-4)
    drawn = prior.sample(torch.randn(20_000, 1), None, vae.gaussian)
    cdf = torch.distributions.Normal(q.mean.T, q.std.T).cdf(z).mean(1)
    empirical = (drawn <= z.T).float().mean(0)
    assert (cdf - empirical).abs().max() < 0.015  # Kolmogorov and Smirnov: beyond it once in 5,000 times


def test_the_elbo_with_a_vamp_prior_lies_below_the_likelihood() -> None:
    prior = VampPrior((1, 2, 2), num_components=4)
    vae = VAE((1, 2, 2), Bernoulli(), FullyConnected((8,)), ELBO(), prior=prior, latent_dim=2)
    images = torch.cartesian_prod(*[torch.tensor([0.0, 1.0])] * 4).view(-1, 1, 2, 2)
    elbo = torch.stack([vae.log_prob(images) for _ in range(300)]).mean(0)
    exact = vae.importance_weighted(images, num_samples=20_000)
    assert (elbo <= exact + 0.02).all()
    assert abs(exact.exp().sum() - 1) < 0.05


def test_pseudo_inputs_begin_as_examples() -> None:
    x = torch.rand(10, 1, 4, 4).round()
    prior = VampPrior((1, 4, 4), num_components=12)
    vae = VAE((1, 4, 4), Bernoulli(), FullyConnected((8,)), ELBO(), prior=prior, latent_dim=2)
    vae.initialize(x)
    torch.testing.assert_close(torch.sigmoid(prior.logits)[[0, 11]], x[[0, 1]], atol=0.06, rtol=0)


def test_pseudo_inputs_of_the_authors_are_cut_off_and_begin_dark() -> None:
    torch.manual_seed(0)
    prior = VampPrior((1, 4, 4), num_components=200, squash="hardtanh", first_mean=0.05)
    vae = VAE((1, 4, 4), Bernoulli(), FullyConnected((8,)), ELBO(), prior=prior, latent_dim=2)
    vae.initialize(torch.ones(10, 1, 4, 4))
    assert float(prior.pseudo_inputs().detach().mean()) == pytest.approx(0.05, abs=0.001)
    assert float(prior.pseudo_inputs().detach().std()) == pytest.approx(0.01, abs=0.001)
    prior.logits.data[0], prior.logits.data[1], prior.logits.data[2] = -0.3, 1.7, 0.25
    assert prior.pseudo_inputs()[:3].flatten(1).unique(dim=1).flatten().tolist() == [0.0, 1.0, 0.25]
    of_examples = VampPrior((1, 4, 4), num_components=2, squash="hardtanh")
    x = torch.rand(2, 1, 4, 4).round()
    of_examples.initialize(x)
    assert torch.equal(of_examples.pseudo_inputs(), x)


def test_bounds_of_the_variance_hold_wherever_the_posterior_is_used() -> None:
    torch.manual_seed(0)
    posterior = DiagonalGaussian((-6.0, 2.0))
    vae = VAE((1, 4, 4), Bernoulli(), FullyConnected((8,)), ELBO(), posterior, latent_dim=3)
    vae.encoder.last.weight.data.mul_(1000)
    x = torch.rand(200, 1, 4, 4).round()
    q = vae.gaussian(x)
    variance = q.std.square().detach()
    assert float(variance.max()) == pytest.approx(math.exp(2), rel=1e-5)
    assert float(variance.min()) == pytest.approx(math.exp(-6), rel=1e-5)
    z, log_q = vae.draw(x)
    torch.testing.assert_close(log_q, q.log_prob(z))
    for bounds in ((2.0, -6.0), (-20.0, 2.0), (1.0, 1.0)):
        with pytest.raises(InputError, match="expected increasing bounds"):
            DiagonalGaussian(bounds)


def test_what_does_not_go_together_is_refused() -> None:
    networks = FullyConnected((8,))
    with pytest.raises(InputError, match="vae/posterior=gaussian"):
        VAE((1, 2, 2), Bernoulli(), networks, ELBO(), PlanarFlows(), VampPrior((1, 2, 2), 3))
    for objective in (BetaTC(), IWAE(5, doubly_reparameterized=True)):
        with pytest.raises(InputError, match="vae/posterior=gaussian"):
            VAE((1, 2, 2), Bernoulli(), networks, objective, PlanarFlows())


# -- objectives --------------------------------------------------------------------------------------------------------


def test_the_parts_of_the_divergence_add_up_and_vanish_where_they_should() -> None:
    q = Gaussian(torch.randn(40, 3), torch.rand(40, 3) + 0.2)
    z = q.mean + q.std * torch.randn(40, 3)
    log_prior = StandardNormal().log_prob(z, lambda x, y: q)
    parts = decomposed_kl(q, z, log_prior)
    torch.testing.assert_close(sum(parts), (q.log_prob(z) - log_prior).mean(), atol=1e-4, rtol=1e-4)
    same = Gaussian(torch.zeros(40, 3), torch.ones(40, 3))  # q(z | x) = p(z): nothing to pay for
    z = torch.randn(40, 3)
    for part in decomposed_kl(same, z, StandardNormal().log_prob(z, lambda x, y: same)):
        torch.testing.assert_close(part, torch.zeros(()), atol=1e-5, rtol=0)


def test_total_correlation_is_that_of_correlated_latents() -> None:
    """Means on the diagonal z1 = z2: the total correlation is the mutual information of both latents."""
    torch.manual_seed(0)
    position = torch.randn(3000, 1).double()
    q = Gaussian(position.repeat(1, 2), torch.full((3000, 2), 0.5).double())
    z = q.mean + q.std * torch.randn(3000, 2).double()
    _, correlation, _ = decomposed_kl(q, z, StandardNormal().log_prob(z, lambda x, y: q))
    rho = 1 / (1 + 0.25)  # of a normal distribution with variance 1.25 and covariance 1
    assert abs(float(correlation) + 0.5 * math.log(1 - rho**2)) < 0.05


def test_mmd_agrees_with_sums_over_pairs_and_is_unbiased() -> None:
    a, b = torch.randn(6, 3), torch.randn(7, 3)

    def kernel(u: Tensor, v: Tensor) -> Tensor:
        return 6 / (6 + (u - v).square().sum())

    def mean(pairs: list[tuple[Tensor, Tensor]]) -> Tensor:
        return torch.stack([kernel(u, v) for u, v in pairs]).mean()

    expected = (
        mean([(u, v) for i, u in enumerate(a) for j, v in enumerate(a) if i != j])
        + mean([(u, v) for i, u in enumerate(b) for j, v in enumerate(b) if i != j])
        - 2 * mean([(u, v) for u in a for v in b])
    )
    torch.testing.assert_close(mmd2(a, b), expected)
    alike = torch.stack([mmd2(torch.randn(20, 2), torch.randn(20, 2)) for _ in range(500)])
    assert alike.mean().abs() < 4 * alike.std() / 500**0.5
    assert mmd2(torch.randn(100, 2), 2 + torch.randn(100, 2)) > 0.1
    z = torch.randn(5, 2, requires_grad=True)
    mmd2(z, z.detach().clone()).backward()  # also where points coincide
    assert z.grad is not None
    assert z.grad.isfinite().all()


def test_info_vae_weighs_its_terms() -> None:
    x = torch.rand(6, 1, 4, 4).round()
    vae = VAE((1, 4, 4), Bernoulli(), FullyConnected((8,)), objective=InfoVAE(alpha=0.3, scale=10.0), latent_dim=2)
    figures = vae.loss(x)
    expected = figures["reconstruction"] + 0.7 * figures["kl"] + 9.3 * figures["mmd2"]
    torch.testing.assert_close(figures["loss"], vae.bits_per_dim(expected))


def test_the_kl_weight_warms_up_and_cycles() -> None:
    warm, cyclic = ELBO(beta=2.0, warmup_images=1000), ELBO(cycle_images=1000)
    found = []
    for images in (0, 250, 500, 1000, 1250, 5000):
        warm.prepare(images)
        cyclic.prepare(images)
        found.append((float(warm.weight), float(cyclic.weight)))
    assert found == [(0.0, 0.0), (0.5, 0.5), (1.0, 1.0), (2.0, 0.0), (2.0, 0.5), (2.0, 0.0)]


def test_free_bits_leave_a_latent_alone_until_it_costs_more() -> None:
    torch.manual_seed(0)
    vae = VAE((1, 4, 4), Bernoulli(), FullyConnected(()), objective=ELBO(free_bits=0.5), latent_dim=2)
    with torch.no_grad():
        vae.encoder.last.weight.zero_()
        vae.encoder.last.bias.copy_(torch.tensor([0.1, 3.0, 0.0, 0.0]))  # KL of 0.005 and 4.5 nats
        vae.decoder.last.weight.zero_()  # no gradient by way of the reconstruction
    figures = vae.loss(torch.rand(6, 1, 4, 4).round())
    figures["loss"].backward()
    gradient = vae.encoder.last.bias.grad
    assert gradient is not None
    assert gradient[0] == 0
    assert gradient[1] > 0
    torch.testing.assert_close(figures["loss"] * 16 * math.log(2), figures["reconstruction"] + 0.5 + torch.tensor(4.5))


# -- beginning, and looking at it --------------------------------------------------------------------------------------


@pytest.mark.parametrize("networks", [FullyConnected((8,)), Convolutional(8)])
@pytest.mark.parametrize("distribution", [Bernoulli(), Categorical(2)])
def test_a_decoder_begins_with_the_datas_own_pixels(networks: FullyConnected, distribution: PixelDistribution) -> None:
    x = (torch.rand(2000, 1, 6, 6) < torch.linspace(0.1, 0.9, 6)).float()
    vae = VAE((1, 6, 6), distribution, networks, ELBO(), latent_dim=2)
    vae.initialize(x)
    with torch.no_grad():
        vae.decoder.last.weight.zero_()
        mean = vae.decode(torch.randn(1, 2))
    per_pixel = isinstance(networks, FullyConnected)
    expected = x.mean(0, keepdim=True) if per_pixel else x.mean().expand(1, 1, 6, 6)
    torch.testing.assert_close(mean, expected, atol=1e-3, rtol=0)


def test_a_centred_encoder_sees_images_less_the_mean_of_those_it_was_initialized_with() -> None:
    x = torch.rand(50, 1, 3, 3, generator=torch.Generator().manual_seed(0)).round()
    vae = VAE((1, 3, 3), Bernoulli(), FullyConnected((8,), "tanh", center=True), ELBO(), latent_dim=2)
    torch.testing.assert_close(vae.encoder(torch.zeros(1, 1, 3, 3)), torch.zeros(1, 4))  # biases begin at 0
    vae.initialize(x)
    torch.testing.assert_close(vae.encoder(x.mean(0, keepdim=True)), torch.zeros(1, 4))
    # What it saw goes where its weights go.
    other = VAE((1, 3, 3), Bernoulli(), FullyConnected((8,), "tanh", center=True), ELBO(), latent_dim=2)
    other.load_state_dict(vae.state_dict())
    torch.testing.assert_close(other.encoder(x), vae.encoder(x))


def test_what_latents_carry() -> None:
    """Of a posterior by hand: one latent that follows the image, one that ignores it."""
    vae = VAE((1, 1, 2), Bernoulli(), FullyConnected(()), ELBO(), latent_dim=2)
    with torch.no_grad():
        vae.encoder.last.weight.copy_(torch.tensor([[1.0, 0], [0, 0], [0, 0], [0, 0]]))
        vae.encoder.last.bias.copy_(torch.tensor([0.0, 0, math.log(0.5), 0]))
    x = torch.randint(2, (1000, 1, 1, 2)).float()  # seen as -1 and 1
    found = vae.diagnose(x)
    assert found["active_units"] == 1
    assert abs(found["rate"] - (0.5 * (1 + 0.25 - 1) + math.log(2))) < 1e-3
    variance = float((2 * x[:, 0, 0, 0] - 1).var()) + 0.25
    mean = float((2 * x[:, 0, 0, 0] - 1).mean())
    assert abs(found["aggregate_gap"] - 0.5 * (mean**2 + variance - 1 - math.log(variance))) < 0.01
