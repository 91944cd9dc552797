"""The normal distribution over bins of grey levels: an exact probability; and its dequantized bound, which says so."""

import math

import pytest
import torch
from torch import Tensor

from genlab.distributions.normal import log_below, log_interval
from genlab.distributions.pixel import DequantizedGaussian, DiscretizedGaussian, PixelDistribution
from genlab.models.autoregressive.fvsbn import FVSBN
from genlab.models.autoregressive.made import MADE
from genlab.models.autoregressive.pixel_cnn import PixelCNN
from genlab.models.base import AutoregressiveModel
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.vae import VAE

SHAPE = (1, 2, 2)


def over_levels(distribution: PixelDistribution, mean: float, log_std: float) -> Tensor:
    levels = distribution.levels
    params = torch.tensor([mean, log_std]).view(1, 2, 1).expand(levels, -1, -1)
    return distribution.log_prob(params, (torch.arange(levels) / (levels - 1)).view(-1, 1)).squeeze(1)


@pytest.mark.parametrize("levels", [2, 3, 17, 256])
@pytest.mark.parametrize("mean", [-40.0, -0.3, 0.0, 0.41, 1.0, 3.0])
@pytest.mark.parametrize("log_std", [-9.0, -5.0, -1.5, 0.0, 6.0])
def test_the_levels_probabilities_are_the_integrals_over_their_bins_and_sum_to_one(
    levels: int, mean: float, log_std: float
) -> None:
    distribution = DiscretizedGaussian(levels)
    found = over_levels(distribution, mean, log_std)
    assert abs(float(found.double().exp().sum()) - 1) < 1e-5
    std = math.exp(max(-7.0, log_std))
    edges = torch.arange(1, levels).double() / levels
    below = torch.special.ndtr((edges - mean) / std)
    above = torch.special.ndtr((mean - edges) / std)  # from the side that has the digits
    zero, one = torch.zeros(1).double(), torch.ones(1).double()
    bins = torch.cat([below, one]) - torch.cat([zero, below])
    from_above = torch.cat([one, above]) - torch.cat([above, zero])
    bins = torch.where(edges.new_tensor([mean]) < (torch.arange(levels) + 0.5) / levels, from_above, bins)
    # Where they have digits to compare: the difference of two numbers of float64 leaves few in a narrow bin.
    told = bins > 1e-9
    torch.testing.assert_close(found.double()[told], bins[told].log(), atol=2e-5, rtol=2e-5)


@pytest.mark.parametrize("half", [1e-6, 0.01, 0.49, 0.51, 4.0, 30.0])
def test_an_intervals_logarithm_and_its_derivatives_are_those_of_high_precision(half: float) -> None:
    mp = pytest.importorskip("mpmath")
    mp.mp.dps = 50
    half = float(torch.tensor(half))
    for middle in (0.0, 1e-3, 0.3, 0.9, 1.1, 3.0, 20.0, 300.0):
        m, h = torch.tensor(middle, requires_grad=True), torch.tensor(half, requires_grad=True)
        (value := log_interval(m, h)).backward()
        near, far = mp.mpf(m.item()) - half, mp.mpf(m.item()) + half
        probability = (mp.erfc(near / mp.sqrt(2)) - mp.erfc(far / mp.sqrt(2))) / 2
        expected = float(mp.log(probability))
        assert value.item() == pytest.approx(expected, rel=1e-6, abs=1e-6)
        of_near, of_far = mp.npdf(near) / probability, mp.npdf(far) / probability
        assert float(m.grad) == pytest.approx(float(of_far - of_near), rel=2e-4, abs=1e-6)
        assert float(h.grad) == pytest.approx(float(of_far + of_near), rel=2e-4, abs=1e-6)


@pytest.mark.parametrize("x", [-1e4, -300.0, -14.0, -1.01, -0.99, 0.0, 2.0, 9.0])
def test_the_logarithm_of_phi_and_its_derivative_are_those_of_high_precision(x: float) -> None:
    mp = pytest.importorskip("mpmath")
    mp.mp.dps = 50
    at = torch.tensor(x, requires_grad=True)
    (value := log_below(at)).backward()
    x = at.item()
    assert value.item() == pytest.approx(float(mp.log(mp.ncdf(x))), rel=1e-6, abs=1e-9)
    assert at.grad is not None
    assert at.grad.item() == pytest.approx(float(mp.npdf(x) / mp.ncdf(x)), rel=1e-4, abs=1e-12)


def test_log_probabilities_and_gradients_are_finite_wherever_a_network_may_begin() -> None:
    distribution = DiscretizedGaussian(256)
    params = torch.cartesian_prod(torch.tensor([-1e4, -5.0, 0.0, 0.5, 1.0, 9.0, 1e4]), torch.linspace(-9, 9, 19))
    x = torch.arange(256) / 255
    params = params.unsqueeze(2).expand(-1, -1, 256).clone().requires_grad_()
    log_prob = distribution.log_prob(params, x.expand(len(params), -1))
    assert log_prob.isfinite().all()
    assert (log_prob <= 1e-6).all()
    log_prob.sum().backward()
    assert params.grad is not None
    assert params.grad.isfinite().all()


@pytest.mark.parametrize("levels", [2, 5, 256])
def test_samples_have_the_probabilities_that_log_prob_states(levels: int) -> None:
    distribution = DiscretizedGaussian(levels)
    params = torch.tensor([0.8, math.log(0.3)]).view(1, 2, 1)
    u = ((torch.arange(40_000) + 0.5) / 40_000).view(-1, 1)
    drawn = distribution.index(distribution.sample(params.expand(len(u), -1, -1), u)).flatten()
    shares = torch.bincount(drawn, minlength=levels) / len(u)
    torch.testing.assert_close(shares, over_levels(distribution, 0.8, math.log(0.3)).exp(), atol=1e-4, rtol=0)


def test_the_dequantized_density_is_below_the_exact_probability_on_average() -> None:
    exact = over_levels(DiscretizedGaussian(8), 0.3, -1.0)
    draws = torch.stack([over_levels(DequantizedGaussian(8), 0.3, -1.0) for _ in range(4000)])
    assert (draws.mean(0) < exact + 0.01).all()
    assert (draws.mean(0) < exact)[[0, -1]].all()  # the mass beyond [0, 1] is lost to the bound alone


MODELS = {
    "fvsbn": lambda distribution: FVSBN(SHAPE, distribution),
    "made": lambda distribution: MADE(SHAPE, distribution, hidden=(16,), num_masks=2),
    "pixel_cnn": lambda distribution: PixelCNN(SHAPE, distribution, channels=8, num_layers=2),
}


@pytest.mark.parametrize("build", MODELS.values(), ids=MODELS)
def test_an_autoregressive_likelihood_is_called_exact_only_if_it_is(build: object) -> None:
    x = torch.randint(0, 8, (5, *SHAPE)) / 7
    exact = build(DiscretizedGaussian(8)).eval()  # type: ignore[operator]
    assert isinstance(exact, AutoregressiveModel)
    assert exact.likelihood == "exact"
    assert torch.equal(exact.log_prob(x), exact.log_prob(x))
    bound = build(DequantizedGaussian(8)).eval()  # type: ignore[operator]
    assert bound.likelihood == "lower_bound"
    assert not torch.equal(bound.log_prob(x), bound.log_prob(x))


def test_an_autoregressive_model_sums_to_one_over_all_images() -> None:
    model = FVSBN(SHAPE, DiscretizedGaussian(3)).double()
    torch.nn.init.normal_(next(model.parameters()))
    x = torch.cartesian_prod(*[torch.tensor([0.0, 0.5, 1.0]).double()] * 4).view(81, *SHAPE)
    assert model.log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("distribution", [DiscretizedGaussian(8), DequantizedGaussian(8)])
def test_a_vaes_likelihood_is_a_bound_with_either(distribution: PixelDistribution) -> None:
    vae = VAE(SHAPE, distribution, FullyConnected((8,)), ELBO(), latent_dim=2)
    assert vae.likelihood == "lower_bound"
    x = torch.randint(0, 8, (50, *SHAPE)) / 7
    vae.initialize(x)
    vae.loss(x)["loss"].backward()


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_mean_is_the_level_in_the_middle_of_whose_bin_it_lies(levels: int) -> None:
    distribution = DiscretizedGaussian(levels)
    x = (torch.arange(levels) / (levels - 1)).view(-1, 1)
    params = torch.stack([(torch.arange(levels) + 0.5) / levels, torch.full((levels,), -7.0)], 1).unsqueeze(2)
    torch.testing.assert_close(distribution.mean(params), x, atol=1e-5, rtol=0)
    assert torch.equal(distribution.sample(params, torch.full((levels, 1), 0.5)), x)
