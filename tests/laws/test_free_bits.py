"""Free bits: a threshold for each latent, for each block of a hierarchy, or for all latents, as the model says."""

import pytest
import torch
from torch import Tensor

from genlab.distributions.pixel import Bernoulli
from genlab.models.vae.hierarchical_vae import HierarchicalVAE
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.posteriors import DiagonalGaussian, PlanarFlows, Posterior
from genlab.models.vae.priors import Prior, StandardNormal, VampPrior
from genlab.models.vae.terms import Bounded
from genlab.models.vae.vae import VAE

SHAPE = (1, 2, 2)
X = torch.ones(3, *SHAPE)


def counted(model: Bounded, monkeypatch: pytest.MonkeyPatch, free_bits: float = 0.3) -> float:
    """The nats that free bits count for a KL term of 0."""
    log_likelihood, kl = model.elbo_terms(X)
    monkeypatch.setattr(model, "elbo_terms", lambda x, y=None: (torch.zeros_like(log_likelihood), torch.zeros_like(kl)))
    monkeypatch.setattr(model, "bits_per_dim", lambda nats: nats)
    return ELBO(free_bits=free_bits)(model, X, None)["loss"].item()


@pytest.mark.parametrize(("side", "num_blocks", "blocks"), [(1, 1, 1), (1, 3, 3), (2, 1, 2), (2, 2, 4)])
def test_a_hierarchy_has_a_threshold_for_each_block(
    side: int, num_blocks: int, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = {"channels": 4, "latent_channels": 5, "num_blocks": num_blocks, "latent_side": side}
    model = HierarchicalVAE(SHAPE, Bernoulli(), ELBO(free_bits=0.3), **options)  # type: ignore[arg-type]
    assert counted(model, monkeypatch) == pytest.approx(0.3 * blocks)


@pytest.mark.parametrize("latent_dim", [1, 4])
@pytest.mark.parametrize(
    ("posterior", "prior"),
    [
        (DiagonalGaussian(), StandardNormal()),  # a column for each latent
        (PlanarFlows(2), StandardNormal()),  # one column for all
        (DiagonalGaussian(), VampPrior(SHAPE, 3)),
    ],
)
def test_a_layer_of_latents_has_the_same_threshold_with_and_without_a_closed_form(
    posterior: Posterior, prior: Prior, latent_dim: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = VAE(SHAPE, Bernoulli(), FullyConnected((4,)), ELBO(free_bits=0.3), posterior, prior, latent_dim=latent_dim)
    assert counted(model, monkeypatch) == pytest.approx(0.3 * latent_dim)


def test_a_model_says_itself_what_a_part_adds_up(monkeypatch: pytest.MonkeyPatch) -> None:
    class TwoOfThree:
        """Two parts of three latents each."""

        latent_dim, units_per_part = 6, 3

        def elbo_terms(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
            return torch.zeros(len(x)), torch.zeros(len(x), 2)

        def bits_per_dim(self, nats: Tensor) -> Tensor:
            return nats

    assert isinstance(TwoOfThree(), Bounded)
    assert counted(TwoOfThree(), monkeypatch) == pytest.approx(6 * 0.3)
