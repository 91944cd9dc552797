"""Numbers of parameters at the papers' settings, against those of the authors' code."""

from typing import Any

import torch
import yaml
from torch import nn

from genlab.distributions.pixel import DiscretizedLogisticMixture
from genlab.models.vae.hierarchical_vae import HierarchicalVAE
from genlab.models.vae.objectives import ELBO
from support.paths import CONF


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def settings_of(experiment: str) -> dict[str, Any]:
    """Read what an experiment sets of its model."""
    with (CONF / "experiment" / f"{experiment}.yaml").open(encoding="utf-8") as file:
        found = yaml.safe_load(file)["model"]
    assert isinstance(found, dict)
    return found


def test_vd_vae_on_cifar10() -> None:
    """The authors' VAE of openai/vdvae, built with its settings ``cifar10``; its README says 39M."""
    settings = settings_of("paper/cifar10_vd_vae")
    with torch.device("meta"):
        model = HierarchicalVAE((3, 32, 32), DiscretizedLogisticMixture(256, 10), ELBO(), **settings)
    assert count(model) == 39_145_700
    assert len(model.latent_shapes) == 43
