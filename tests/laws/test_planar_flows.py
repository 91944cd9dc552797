"""Planar posteriors: they start from the identity, and weights of earlier runs keep the function of their training."""

import copy
import math

import pytest
import torch
from torch import Tensor

from genlab.distributions.pixel import Bernoulli
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.posteriors import PlanarFlows, planar
from genlab.models.vae.vae import VAE
from genlab.runs.moved import current
from genlab.training.ema import ExponentialMovingAverage


@pytest.mark.parametrize("scale", [1e-1, 1e-3, 1e-6, 1e-12, 1e-20, 0.0])
@pytest.mark.parametrize("D", [1, 2, 32])
def test_a_map_tends_to_the_identity_with_its_parameters(scale: float, D: int) -> None:
    torch.manual_seed(0)
    z, b = torch.randn(200, 7, D), torch.randn(7)
    u, w = scale * torch.randn(2, 7, D)
    mapped, log_det = planar(z, u, w, b)
    assert (mapped - z).abs().max() <= 8 * scale
    assert log_det.abs().max() <= 60 * D * scale**2 + 1e-7


@pytest.mark.parametrize("D", [2, 32])
def test_a_map_tends_to_the_identity_with_w_alone_and_u_alone(D: int) -> None:
    torch.manual_seed(0)
    z, b = torch.randn(200, 7, D), torch.zeros(7)
    large, small = torch.randn(7, D), 1e-6 * torch.randn(7, D)
    for u, w in ((large, small), (small, large)):
        mapped, log_det = planar(z, u, w, b)
        assert (mapped - z).abs().max() < 2e-3
        assert log_det.abs().max() < 2e-3


@pytest.mark.parametrize("latent_dim", [2, 32])
def test_the_flows_of_a_new_model_do_not_move_the_latents(latent_dim: int) -> None:
    torch.manual_seed(0)
    flows = PlanarFlows()
    vae = VAE((1, 8, 8), Bernoulli(), FullyConnected(), ELBO(), flows, latent_dim=latent_dim)
    x = torch.rand(500, 1, 8, 8).round()
    vae.initialize(x)
    h, noise = vae.posterior_params(x), torch.randn(1, 500, latent_dim)
    q = vae.gaussian(x)
    z, log_q = vae.draw_posterior(h, noise)
    start = q.mean + q.std * noise
    assert torch.equal(z, start)
    assert torch.equal(log_q, q.log_prob(start))
    (z.square().sum() + log_q.sum()).backward()  # what moves the maps away from the identity
    assert vae.encoder.last.weight.grad is not None
    of_map = vae.encoder.last.weight.grad[2 * latent_dim : 3 * latent_dim]
    assert of_map.abs().max() > 0


def test_the_papers_formula_begins_as_ever() -> None:
    torch.manual_seed(0)
    vae = VAE((1, 4, 4), Bernoulli(), FullyConnected((8,)), ELBO(), PlanarFlows(2, from_identity=False), latent_dim=2)
    before = copy.deepcopy(vae.encoder.state_dict())
    vae.initialize(torch.rand(20, 1, 4, 4).round())
    assert all(torch.equal(before[key], value) for key, value in vae.encoder.state_dict().items())


@pytest.mark.parametrize("from_identity", [True, False])
def test_maps_are_one_to_one_and_their_determinant_is_that_of_the_jacobian(from_identity: bool) -> None:
    torch.manual_seed(1)
    for size in (0.01, 1.0, 6.0):
        z, (u, w), b = torch.randn(1, 1, 3).double(), size * torch.randn(2, 1, 3).double(), torch.randn(1).double()

        def to_z(e: Tensor) -> Tensor:
            return planar(e.view(1, 1, 3), u, w, b, from_identity)[0].flatten()  # noqa: B023

        _, log_det = planar(z, u, w, b, from_identity)
        jacobian = torch.autograd.functional.jacobian(to_z, z.flatten())
        assert torch.linalg.det(jacobian) > 0
        torch.testing.assert_close(log_det[0, 0], torch.linalg.slogdet(jacobian).logabsdet)


@pytest.mark.parametrize("wu", [-1e4, -60.0, -17.0, 0.0, 17.0, 1e4])
def test_the_determinant_stays_positive_in_float32(wu: float) -> None:
    u, w = torch.tensor([[wu]], requires_grad=True), torch.ones(1, 1, requires_grad=True)
    z = torch.linspace(-4, 4, 401).view(-1, 1, 1)
    mapped, log_det = planar(z, u, w, torch.zeros(1))
    assert log_det.isfinite().all()
    (mapped.sum() + log_det.sum()).backward()
    for leaf in (u, w):
        assert leaf.grad is not None
        assert leaf.grad.isfinite().all()


def of_the_paper(z: Tensor, u: Tensor, w: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """The map with m(a) = log(1 + e^a) - 1, as in arXiv:1505.05770, appendix A.1."""
    wu = (w * u).sum(-1, keepdim=True)
    u = u + (torch.log1p(wu.exp()) - 1 - wu) * w / w.square().sum(-1, keepdim=True)
    t = torch.tanh((z * w).sum(-1, keepdim=True) + b.view(-1, 1))
    return z + u * t, torch.log1p((1 - t.square()) * (u * w).sum(-1, keepdim=True)).squeeze(-1)


def test_earlier_weights_keep_their_function_wherever_they_are_loaded() -> None:
    torch.manual_seed(0)

    def vae() -> VAE:
        return VAE((1, 4, 4), Bernoulli(), FullyConnected((8,)), ELBO(), PlanarFlows(2), latent_dim=2)

    saved = {key: value for key, value in vae().state_dict().items() if key != "posterior._extra_state"}
    old, new = vae(), vae()
    old.load_state_dict(saved)
    new.load_state_dict({**saved, "posterior._extra_state": {"from_identity": True}})
    x, noise = torch.rand(5, 1, 4, 4).round(), torch.randn(3, 5, 2)
    h = old.posterior_params(x)
    q = old.gaussian(x)
    z = q.mean + q.std * noise
    log_q = q.log_prob(z)
    for params in (0.1 * h[:, 4:]).chunk(2, 1):
        u, w, b = params.split([2, 2, 1], 1)
        z, log_det = of_the_paper(z, u, w, b)
        log_q = log_q - log_det
    for model in (old, copy.deepcopy(old)):
        torch.testing.assert_close(model.draw_posterior(h, noise), (z, log_q), atol=1e-4, rtol=1e-3)
    assert (new.draw_posterior(h, noise)[1] - log_q).abs().mean() > 0.5
    again = vae()
    again.load_state_dict(old.state_dict())  # also after they were saved once more
    torch.testing.assert_close(again.draw_posterior(h, noise), old.draw_posterior(h, noise))
    average = ExponentialMovingAverage(vae(), 0.9)
    average.load_state_dict({**{f"model.{key}": value for key, value in saved.items()}, "_extra_state": {"updates": 3}})
    assert isinstance(average.model, VAE)
    torch.testing.assert_close(average.model.draw_posterior(h, noise), old.draw_posterior(h, noise))


def test_an_earlier_config_begins_anew_as_it_did_and_a_new_one_says_what_it_does() -> None:
    target = "genlab.models.vae.posteriors.PlanarFlows"
    assert current({"_target_": target, "num_flows": 4})["from_identity"] is False
    assert current({"_target_": target, "num_flows": 4, "from_identity": True})["from_identity"] is True
    for from_identity in (True, False):
        assert PlanarFlows(4, from_identity).state_dict() == {"_extra_state": {"from_identity": from_identity}}
    tiny = 1e-6 * torch.randn(2, 1, 2)
    _, log_det = planar(torch.randn(4, 1, 2), *tiny, torch.zeros(1), False)
    torch.testing.assert_close(log_det, torch.full_like(log_det, math.log(math.log(2))), atol=1e-3, rtol=0)
