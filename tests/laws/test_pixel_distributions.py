"""The distributions of one pixel value: normalised, sampled as they score, and well-behaved at the extremes."""

import math

import pytest
import torch
from torch import Tensor

from genlab.distributions.pixel import (
    Bernoulli,
    Categorical,
    DequantizedGaussian,
    DiscretizedLogisticMixture,
    PixelDistribution,
    natural,
)
from genlab.errors import InputError

DISTRIBUTIONS = [
    Bernoulli(2),
    Categorical(2),
    Categorical(5),
    Categorical(256),
    DiscretizedLogisticMixture(2, 1),
    DiscretizedLogisticMixture(5, 3),
    DiscretizedLogisticMixture(17, 10),
    DiscretizedLogisticMixture(256, 10),
]
every = pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=lambda d: f"{type(d).__name__}-{d.levels}")


def random_params(distribution: PixelDistribution, num: int, scale: float, seed: int = 0) -> Tensor:
    return scale * torch.randn(num, distribution.num_params, generator=torch.Generator().manual_seed(seed))


def levels_of(distribution: PixelDistribution) -> Tensor:
    return torch.arange(distribution.levels) / (distribution.levels - 1)


def log_probs(distribution: PixelDistribution, params: Tensor) -> Tensor:
    """``(B, num_params)`` to the log-probabilities of all levels, ``(B, levels)``."""
    x = levels_of(distribution).expand(len(params), -1)
    return distribution.log_prob(params.unsqueeze(2).expand(-1, -1, distribution.levels), x)


@every
@pytest.mark.parametrize("scale", [0.0, 1.0, 10.0, 1000.0])
def test_sums_to_one(distribution: PixelDistribution, scale: float) -> None:
    total = log_probs(distribution, random_params(distribution, 64, scale)).double().exp().sum(1)
    torch.testing.assert_close(total, torch.ones_like(total), atol=1e-5, rtol=0)


@every
def test_log_prob_is_float32_nats_of_any_shape(distribution: PixelDistribution) -> None:
    params = random_params(distribution, 2 * 3 * 4 * 5, 2.0)
    x = levels_of(distribution)[torch.arange(len(params)) % distribution.levels]
    one_by_one = distribution.log_prob(params, x)
    images = params.view(2, 3, 4, 5, -1).movedim(-1, 1)
    torch.testing.assert_close(distribution.log_prob(images, x.view(2, 3, 4, 5)).flatten(), one_by_one)
    assert distribution.log_prob(images.bfloat16(), x.view(2, 3, 4, 5).bfloat16()).dtype == torch.float32


@every
def test_autocast_changes_nothing(distribution: PixelDistribution) -> None:
    params = random_params(distribution, 32, 3.0)
    u = torch.rand(32, generator=torch.Generator().manual_seed(1))
    expected = log_probs(distribution, params), distribution.sample(params, u), distribution.mean(params)
    with torch.autocast("cpu", torch.bfloat16):
        actual = log_probs(distribution, params), distribution.sample(params, u), distribution.mean(params)
    torch.testing.assert_close(actual, expected, rtol=0, atol=0)


@every
@pytest.mark.parametrize("scale", [1.0, 5.0])
def test_sample_inverts_the_cdf(distribution: PixelDistribution, scale: float) -> None:
    # On a regular grid of uniforms, the share that falls at or below a level is its CDF to within half a cell.
    num = 1 << 12
    u = (torch.arange(num) + 0.5) / num
    params = random_params(distribution, 4, scale)
    drawn = distribution.sample(params.unsqueeze(2).expand(-1, -1, num), u.expand(4, num))
    assert (drawn.diff(dim=1) >= 0).all()
    index = distribution.index(drawn)
    torch.testing.assert_close(index / (distribution.levels - 1), drawn)  # on the levels
    shares = torch.stack([row.bincount(minlength=distribution.levels) for row in index]) / num
    cdf = log_probs(distribution, params).double().exp().cumsum(1)
    torch.testing.assert_close(shares.double().cumsum(1), cdf, atol=0.6 / num, rtol=0)


@pytest.mark.parametrize("u", [0.0, 1 - 2**-24])
@pytest.mark.parametrize("impossible", ["first", "last"])
def test_the_ends_of_u_never_draw_an_impossible_level(u: float, impossible: str) -> None:
    logits = random_params(Categorical(256), 512, 0.5)
    logits[:, 0 if impossible == "first" else -1] = -1e4
    mixture = random_params(DiscretizedLogisticMixture(256, 10), 512, 1.0)
    mixture[:, 10:20] = 0.5 if impossible == "first" else -0.5
    mixture[:, 20:] = -7
    sure = torch.full((512, 1), 200.0 if impossible == "first" else -200.0)
    for distribution, params in [
        (Categorical(256), logits),
        (DiscretizedLogisticMixture(256, 10), mixture),
        (Bernoulli(2), sure),
    ]:
        drawn = distribution.sample(params, torch.full((512,), u))
        assert (distribution.log_prob(params, drawn) > -100).all()


@every
def test_low_temperature_concentrates_on_one_level(distribution: PixelDistribution) -> None:
    params = random_params(distribution, 16, 1.0)
    u = torch.linspace(0.01, 0.99, 99)
    drawn = distribution.sample(params.unsqueeze(2).expand(-1, -1, 99), u.expand(16, 99), temperature=1e-6)
    if isinstance(distribution, DiscretizedLogisticMixture):
        logits, means, _ = params.chunk(3, dim=1)
        mode = means.gather(1, logits.argmax(1, keepdim=True)).squeeze(1)
        expected = distribution.index(((mode + 1) / 2).clamp(0, 1))
    else:
        expected = log_probs(distribution, params).argmax(1)
    assert torch.equal(distribution.index(drawn), expected[:, None].expand(16, 99))


@every
def test_mean(distribution: PixelDistribution) -> None:
    params = random_params(distribution, 32, 2.0)
    if isinstance(distribution, DiscretizedLogisticMixture):
        logits, means, _ = params.double().chunk(3, dim=1)
        expected = ((logits.softmax(1) * means).sum(1).clamp(-1, 1) + 1) / 2
    else:
        expected = (log_probs(distribution, params).double().exp() * levels_of(distribution)).sum(1)
    torch.testing.assert_close(distribution.mean(params).double(), expected, atol=1e-5, rtol=0)


def test_mean_of_a_narrow_mixture_is_the_mean_of_its_samples() -> None:
    distribution = DiscretizedLogisticMixture(256, 2)
    params = torch.tensor([[0.3, -0.2, -0.5, 0.4, -5.0, -5.0]])
    expected = (log_probs(distribution, params).exp() * levels_of(distribution)).sum(1)
    torch.testing.assert_close(distribution.mean(params), expected, atol=1e-3, rtol=0)


@pytest.mark.parametrize(("levels", "num_components"), [(2, 1), (4, 3), (17, 5), (256, 10)])
def test_logistic_mixture_is_a_difference_of_sigmoids(levels: int, num_components: int) -> None:
    distribution = DiscretizedLogisticMixture(levels, num_components)
    params = random_params(distribution, 32, 1.0)
    logits, means, log_scales = (p.tolist() for p in params.double().chunk(3, dim=1))

    def cdf(row: int, edge: float) -> float:
        weights = [math.exp(logit) for logit in logits[row]]
        parts = [
            w / sum(weights) / (1 + math.exp(-(edge - mean) / math.exp(log_scale)))
            for w, mean, log_scale in zip(weights, means[row], log_scales[row], strict=True)
        ]
        return sum(parts)

    # Level k sits at 2k / (levels - 1) - 1; its bin reaches half way to its neighbours, at the edges to infinity.
    edges = [(2 * k + 1) / (levels - 1) - 1 for k in range(levels - 1)]
    for row in range(4):
        below = [0.0, *(cdf(row, edge) for edge in edges)]
        above = [*(cdf(row, edge) for edge in edges), 1.0]
        expected = torch.tensor([math.log(b - a) for a, b in zip(below, above, strict=True)])
        torch.testing.assert_close(log_probs(distribution, params[row : row + 1])[0], expected, atol=2e-5, rtol=1e-5)
        torch.testing.assert_close(distribution.cdf(params)[row], torch.tensor(above[:-1]), atol=1e-6, rtol=0)


def test_uniform_data_under_a_uniform_model_costs_log2_levels() -> None:
    levels = 4
    positions = torch.linspace(-1, 1, levels)
    # As many components as levels, each far narrower than the bin that it sits in.
    mixture_params = torch.cat([torch.zeros(levels), positions, torch.full((levels,), -7.0)])
    for distribution, params in [
        (Bernoulli(2), torch.zeros(1)),
        (Categorical(17), torch.full((17,), 3.0)),
        (DiscretizedLogisticMixture(levels, levels), mixture_params),
    ]:
        bits = -log_probs(distribution, params.unsqueeze(0)) / math.log(2)
        torch.testing.assert_close(bits, torch.full_like(bits, math.log2(distribution.levels)))


@every
@pytest.mark.parametrize("scale", [1.0, 30.0, 1000.0])
def test_gradients_are_finite_at_extreme_params(distribution: PixelDistribution, scale: float) -> None:
    params = random_params(distribution, 64, scale).requires_grad_()
    log_prob = log_probs(distribution, params)
    assert log_prob.isfinite().all()
    log_prob.sum().backward()
    assert params.grad is not None
    assert params.grad.isfinite().all()


def test_gradient_of_the_logistic_mixture_is_right() -> None:
    distribution = DiscretizedLogisticMixture(5, 2)
    params = random_params(distribution, 3, 0.7).requires_grad_()
    log_probs(distribution, params).sum().backward()
    with torch.no_grad():
        for i in range(distribution.num_params):
            step = torch.zeros_like(params)
            step[:, i] = 1e-2
            slope = (log_probs(distribution, params + step) - log_probs(distribution, params - step)).sum(1) / 2e-2
            torch.testing.assert_close(params.grad[:, i], slope, atol=5e-3, rtol=5e-3)


def test_bernoulli_refuses_grey_levels() -> None:
    with pytest.raises(InputError, match="17 grey levels"):
        Bernoulli(17)


@pytest.mark.parametrize("distribution", [Bernoulli, Categorical, DiscretizedLogisticMixture])
def test_one_level_is_refused(distribution: type[PixelDistribution]) -> None:
    with pytest.raises(InputError):
        distribution(1)


def test_natural_distribution_of_a_number_of_levels() -> None:
    assert isinstance(natural(2), Bernoulli)
    assert isinstance(natural(17), Categorical)
    mixture = natural(256, 5)
    assert isinstance(mixture, DiscretizedLogisticMixture)
    assert mixture.num_params == 15


@pytest.mark.parametrize("levels", [2, 4, 17, 256])
@pytest.mark.parametrize("kind", ["bernoulli", "categorical", "mixture", "logistic", "gaussian"])
def test_fitted_parameters_come_near_the_values_own_distribution(kind: str, levels: int) -> None:
    if (kind == "bernoulli") != (levels == 2):
        return
    distribution = {
        "bernoulli": lambda: Bernoulli(),
        "categorical": lambda: Categorical(levels),
        "mixture": lambda: DiscretizedLogisticMixture(levels),
        "logistic": lambda: DiscretizedLogisticMixture(levels, 1),
        "gaussian": lambda: DequantizedGaussian(levels),
    }[kind]()
    x = ((0.35 + 0.12 * torch.randn(3000, 2)).clamp(0, 1) * (levels - 1)).round() / (levels - 1)
    params = distribution.fit(x)
    assert params.shape == (distribution.num_params, 2)
    nats = -distribution.log_prob(params.expand(3000, -1, -1), x).mean()
    assert nats < 0.98 * math.log(levels)  # better than knowing nothing
    torch.testing.assert_close(distribution.mean(params[None])[0], x.mean(0), atol=0.08, rtol=0)


@pytest.mark.parametrize("levels", [4, 256])
def test_the_dequantized_gaussian_is_a_bound_on_its_integral(levels: int) -> None:
    distribution = DequantizedGaussian(levels)
    params = torch.tensor([0.4, math.log(0.15)]).view(1, 2, 1)
    x = (torch.arange(levels) / (levels - 1)).view(-1, 1)
    draws = torch.stack([distribution.log_prob(params.expand(levels, -1, -1), x) for _ in range(4000)])
    normal = torch.distributions.Normal(0.4, 0.15)
    bins = normal.cdf(torch.arange(1, levels + 1) / levels) - normal.cdf(torch.arange(levels) / levels)
    torch.testing.assert_close(draws.exp().mean(0).squeeze(1), bins, atol=2e-3, rtol=0.03)
    likely = bins > 1e-6
    assert (draws.mean(0).squeeze(1)[likely] <= bins[likely].log() + 0.02).all()
    assert 0.99 < draws.exp().mean(0).sum() <= 1.005
    u = (torch.arange(20_000) + 0.5).view(-1, 1) / 20_000
    sampled = distribution.sample(params.expand(len(u), -1, -1), u)
    shares = torch.bincount(distribution.index(sampled).flatten(), minlength=levels) / len(u)
    torch.testing.assert_close(shares[1:-1], bins[1:-1], atol=2e-3, rtol=0)  # the ends take what lies beyond
