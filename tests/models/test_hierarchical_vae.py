"""The hierarchical VAE: its divergences against closed forms and draws, its bounds, its order of latents."""

import ast
import inspect
import math

import pytest
import torch

from genlab.distributions.pixel import Bernoulli, DiscretizedLogisticMixture
from genlab.errors import InputError
from genlab.models.vae import objectives
from genlab.models.vae.hierarchical_vae import HierarchicalVAE, TopDownBlock
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO, IWAE, BetaTC, InfoVAE, Objective
from genlab.models.vae.posteriors import Gaussian
from genlab.models.vae.terms import Bounded, LatentVariable
from genlab.models.vae.vae import VAE
from support.small_images import random_images

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


# The paper's network, of few blocks.
AS_IN_THE_PAPER = {
    "num_blocks": "1x1,4m1,4x1",
    "encoder_blocks": "4x2,4d4,1x1",
    "bottleneck": 0.25,
    "affine_output": True,
    "zero_biases": True,
    "joint": True,
}


def of_the_paper(shape: tuple[int, int, int] = (3, 4, 4), channels: int = 8) -> HierarchicalVAE:
    torch.manual_seed(0)
    mixture = DiscretizedLogisticMixture(256, 2)
    return HierarchicalVAE(shape, mixture, ELBO(), channels=channels, latent_channels=2, **AS_IN_THE_PAPER).double()


def test_the_papers_network_begins_as_the_paper_says() -> None:
    model = of_the_paper()
    x = random_images(40, model.shape, 256).double()
    model.initialize(x)
    for module in model.modules():
        if isinstance(module, torch.nn.Conv2d) and module is not model.last and module.bias is not None:
            assert not module.bias.any()
    blocks = [block for blocks in model.down for block in blocks]
    assert [block.latent_shape for block in blocks] == [(2, 1, 1), (2, 4, 4), (2, 4, 4)]
    for block in blocks:  # the prior begins as N(0, I), and the 3x3 convolutions have a quarter of the channels
        assert not block.prior[-1].weight.any()
        assert block.posterior[3].weight.shape[:2] == (2, 2)
    assert model.start is None
    h = torch.randn(2, 8, 4, 4).double()
    assert model.affine is not None
    torch.testing.assert_close(model.affine(h), h)
    assert model.last.kernel_size == (1, 1)


def test_the_posterior_reads_features_before_the_block_that_shrinks_them() -> None:
    model = of_the_paper()
    x = random_images(2, model.shape, 256).double()
    coarse, fine = model.features(x)
    for parameter in model.lowering[0].parameters():
        parameter.data += 1
    other_coarse, other_fine = model.features(x)
    torch.testing.assert_close(other_fine, fine, rtol=0, atol=0)
    assert not torch.allclose(other_coarse, coarse)


def test_a_pixels_channels_depend_on_each_other_given_the_latents_if_joint() -> None:
    """All values of one pixel of three binary channels have a probability that is a product over channels, or not."""
    x = torch.cartesian_prod(*[torch.tensor([0.0, 1.0]).double()] * 3).view(8, 3, 1, 1)
    for joint in (False, True):
        torch.manual_seed(0)
        mixture = DiscretizedLogisticMixture(2, 2)
        model = HierarchicalVAE((3, 1, 1), mixture, ELBO(), channels=4, latent_channels=1, joint=joint).double()
        model.last.bias.data.normal_()
        params, _ = model.top_down([torch.zeros(8, 1, 1, 1).double()] * 2)
        p = model.pixel.log_prob(params, x).detach().flatten(1).sum(1).exp().view(2, 2, 2)
        assert float(p.sum()) == pytest.approx(1)
        product = torch.einsum("i,j,k->ijk", p.sum((1, 2)), p.sum((0, 2)), p.sum((0, 1)))
        assert torch.allclose(p, product, atol=1e-4) != joint


def test_the_papers_network_on_odd_images_with_classes() -> None:
    torch.manual_seed(0)
    mixture = DiscretizedLogisticMixture(256, 2)
    blocks = {**AS_IN_THE_PAPER, "num_blocks": "1x1,4m1,7m4", "encoder_blocks": "7d2,4d4,1x1"}
    model = HierarchicalVAE((3, 5, 7), mixture, ELBO(), 3, channels=8, latent_channels=2, **blocks)
    x, y = random_images(4, model.shape, 256), torch.tensor([0, 1, 2, 0])
    model.initialize(x, y)
    model.loss(x, y)["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    assert model.decode(model.encode(x, y), y).shape == x.shape
    assert model.importance_weighted(x, y, num_samples=3, chunk_size=2).shape == (4,)
    drawn = HierarchicalVAE((3, 5, 7), mixture, ELBO(), 3, channels=8, sample_pixels=True, **blocks).sample(2)
    torch.testing.assert_close(drawn * 255, (drawn * 255).round())
    assert drawn.shape == (2, 3, 5, 7)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_blocks": "1x1,4m1"}, "num_blocks=1x1,4m1, encoder_blocks=1: two numbers, or two lists such as 8x5,8d2"),
        ({"bottleneck": 0.0}, "bottleneck=0.0: expected a share of the channels above 0, at most 1, or null"),
        ({"num_blocks": 0}, "channels=6, .*num_blocks=0, .*: at least 1 of each"),
        ({"joint": True}, "the 3 channels of a pixel are modelled by one mixture.*"),
    ],
)
def test_options_that_fit_nothing_are_refused(options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        HierarchicalVAE((3, 4, 4), Bernoulli(), **{"objective": ELBO(), **SIZES, **options})


@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 5, 7), (1, 12, 9)])
def test_encoding_and_decoding_go_through_the_same_latents(shape: tuple[int, int, int]) -> None:
    model = shaken(shape, latent_side=4)
    x = images(3, shape)
    z = model.encode(x)
    assert z.shape == (3, model.latent_dim)
    params, _ = model.top_down(model._split(torch.zeros_like(z)), None, model.features(x))
    torch.testing.assert_close(model.decode(z), model.pixel.mean(params))


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
