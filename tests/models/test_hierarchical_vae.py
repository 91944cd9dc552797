"""The hierarchical VAE: its divergences against closed forms and draws, its bounds, its order of latents."""

import ast
import inspect
import math

import pytest
import torch

from genlab.distributions.pixel import Bernoulli
from genlab.errors import InputError
from genlab.models.vae import objectives
from genlab.models.vae.hierarchical_vae import HierarchicalVAE, TopDownBlock
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO, IWAE, BetaTC, InfoVAE, Objective
from genlab.models.vae.posteriors import Gaussian
from genlab.models.vae.terms import Bounded, LatentVariable
from genlab.models.vae.vae import VAE

SIZES = {"channels": 6, "latent_channels": 2}


def shaken(shape: tuple[int, int, int] = (1, 4, 4), **options: object) -> HierarchicalVAE:
    """Away from the initialisation, where the first prior is standard and most of the network 0."""
    torch.manual_seed(0)
    model = HierarchicalVAE(shape, Bernoulli(), **{"objective": ELBO(), **SIZES, "num_blocks": 1, **options}).double()
    for parameter in model.parameters():
        parameter.data += 0.3 * torch.randn_like(parameter)
    return model


def near_its_prior(model: HierarchicalVAE) -> HierarchicalVAE:
    """So that importance weights have a small variance."""
    for block in model.modules():
        if isinstance(block, TopDownBlock):
            for last in (block.prior[-1], block.posterior[-1]):
                last.weight.data *= 0.2
                last.bias.data *= 0.2
    return model


def images(num: int, shape: tuple[int, int, int] = (1, 4, 4)) -> torch.Tensor:
    return torch.randint(2, (num, *shape), generator=torch.Generator().manual_seed(1)).double()


def test_each_blocks_divergence_is_the_mean_of_its_draws() -> None:
    model = shaken()
    x = images(1).expand(4000, -1, -1, -1)
    _, drawn = model.top_down(model._noise(len(x), x), None, model.features(x))
    assert len(drawn) == 3  # sides 1, 2, 4
    for block in drawn:
        # Given the coarser draws kl is exact, and log_ratio a draw of it.
        difference = (block.kl - block.log_ratio).detach()
        error = float(difference.std()) / math.sqrt(len(x))
        assert abs(float(difference.mean())) < 4 * error
        assert float(difference.std()) > 0.01


def test_a_blocks_figures_are_those_of_torchs_normal_distributions() -> None:
    model = shaken()
    block = model.down[1][0]
    h, features = torch.randn(3, 6, 2, 2).double(), torch.randn(3, 6, 2, 2).double()
    noise = torch.randn(3, 2, 2, 2).double()
    _, drawn = block(h, noise, features)
    p = Gaussian.of(block.prior(h)[:, :4])
    q = Gaussian.of(block.posterior(torch.cat([h, features], 1)))
    p, q = (torch.distributions.Normal(g.mean, g.std) for g in (p, q))
    z = q.mean + q.stddev * noise
    assert drawn is not None
    torch.testing.assert_close(drawn.kl, torch.distributions.kl_divergence(q, p).flatten(1).sum(1))
    torch.testing.assert_close(drawn.log_ratio, (q.log_prob(z) - p.log_prob(z)).flatten(1).sum(1))
    torch.testing.assert_close(drawn.noise, (z - p.mean) / p.stddev)


def test_more_draws_tighten_the_bound_to_probabilities_that_sum_to_one() -> None:
    """All 2x2 binary images."""
    model = near_its_prior(shaken((1, 2, 2)))
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 4).view(16, 1, 2, 2)
    elbo = torch.stack([model.log_prob(x) for _ in range(500)]).mean(0)
    of_ten = torch.stack([model.importance_weighted(x, num_samples=10) for _ in range(100)]).mean(0)
    of_many = model.importance_weighted(x, num_samples=20000, chunk_size=1000)
    assert elbo.mean() < of_ten.mean() < of_many.mean()
    assert float(of_many.exp().sum()) == pytest.approx(1, abs=0.01)


def test_chunks_do_not_change_the_estimate() -> None:
    model, x = near_its_prior(shaken((1, 2, 2))), images(3, (1, 2, 2))
    whole, parts = (model.importance_weighted(x, num_samples=20000, chunk_size=n) for n in (20000, 617))
    torch.testing.assert_close(whole, parts, atol=0.1, rtol=0)


def test_a_finer_latent_knows_the_coarser_ones_and_no_finer_ones() -> None:
    """What block i adds to the features depends on the noise of blocks up to i."""
    model = shaken(num_blocks=2)
    noise = [n.requires_grad_() for n in model._noise(2, images(2))]
    seen: list[torch.Tensor] = []
    for blocks in model.down:
        for block in blocks:
            block.prior.register_forward_hook(lambda _, __, out: seen.append(out[:, :4].sum()))
    model.top_down(noise)
    assert len(seen) == len(noise) == 6
    for i, params in enumerate(seen):
        gradients = torch.autograd.grad(params, noise, retain_graph=True, allow_unused=True)
        depends = [g is not None and bool(g.abs().sum() > 0) for g in gradients]
        assert depends == [j < i for j in range(6)]


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 7), (1, 12, 9)])
def test_encoding_and_decoding_go_through_the_same_latents(shape: tuple[int, int, int]) -> None:
    model = shaken(shape, latent_side=4)
    x = images(3, shape)
    z = model.encode(x)
    assert z.shape == (3, model.latent_dim)
    params, _ = model.top_down(model._split(torch.zeros_like(z)), None, model.features(x))
    torch.testing.assert_close(model.decode(z), model.distribution.mean(params))


def test_temperature_zero_is_the_centre_of_every_prior() -> None:
    model = shaken().float()
    sampling = model.Sampling(temperature=1e-6)
    cold = model.sample(4, generator=torch.Generator().manual_seed(0), sampling=sampling)
    assert (cold - cold[:1]).abs().max() < 1e-4
    warm = model.sample(4, generator=torch.Generator().manual_seed(0))
    assert (warm - warm[:1]).abs().max() > 0.01


def test_what_its_blocks_carry() -> None:
    model = shaken(num_blocks=2)
    x = images(50)
    found = model.diagnose(x)
    per_block = found["kl_per_block"]
    assert isinstance(per_block, torch.Tensor)
    assert per_block.shape == (6,)
    assert found["rate"] == pytest.approx(float(per_block.sum()))
    assert found["active_blocks"] == 6
    for block in model.down[1]:  # one that ignores the image and follows its prior
        for part in (block.prior, block.posterior):
            part[-1].weight.data.zero_()
            part[-1].bias.data.zero_()
    assert model.diagnose(x)["active_blocks"] == 4


def test_free_bits_are_of_blocks() -> None:
    model = shaken(objective=ELBO(free_bits=1000.0))
    figures = model.float().loss(images(8).float())
    expected = model.bits_per_dim(figures["reconstruction"] + 3 * 1000.0)
    torch.testing.assert_close(figures["loss"], expected)


@pytest.mark.parametrize("objective", [BetaTC(), InfoVAE(), IWAE()])
def test_objectives_that_need_one_layer_are_refused(objective: Objective) -> None:
    with pytest.raises(InputError, match=r"^a hierarchical VAE is trained with vae/objective=elbo$"):
        HierarchicalVAE((1, 4, 4), Bernoulli(), objective, **SIZES)


class BoundOnly(Objective[Bounded]):
    """Minimise the negative bound; not a subclass of ELBO."""

    needs = Bounded

    def check(self, model: Bounded) -> None:
        if model.latent_dim > 100:
            raise InputError("too many latents")

    def forward(self, model: Bounded, x: torch.Tensor, y: torch.Tensor | None) -> dict[str, torch.Tensor]:
        log_likelihood, kl = model.elbo_terms(x, y)
        nats = (kl.sum(1) - log_likelihood).mean()
        return {"loss": model.bits_per_dim(nats), "nll": nats}


def test_an_objective_of_the_bound_alone_trains_any_vae() -> None:
    one_layer = VAE((1, 4, 4), Bernoulli(), FullyConnected((8,)), BoundOnly(), latent_dim=2)
    hierarchy = HierarchicalVAE((1, 4, 4), Bernoulli(), BoundOnly(), **SIZES)
    assert isinstance(one_layer, LatentVariable)
    assert not isinstance(hierarchy, LatentVariable)
    for model in (one_layer, hierarchy):
        assert isinstance(model, Bounded)
        torch.manual_seed(0)
        found = model.loss(images(8).float())
        model.objective = ELBO()
        torch.manual_seed(0)
        torch.testing.assert_close(found["loss"], model.loss(images(8).float())["loss"])
    with pytest.raises(InputError, match="too many latents"):
        HierarchicalVAE((1, 4, 4), Bernoulli(), BoundOnly(), channels=6, latent_channels=20)


def test_objectives_and_models_import_each_other_in_one_direction_only() -> None:
    source = ast.parse(inspect.getsource(objectives))
    imported = {node.module for node in ast.walk(source) if isinstance(node, ast.ImportFrom)}
    assert "genlab.models.vae.terms" in imported
    assert not imported & {"genlab.models.vae.vae", "genlab.models.vae.hierarchical_vae"}
