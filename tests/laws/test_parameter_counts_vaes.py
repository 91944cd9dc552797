"""Numbers of parameters at the papers' settings, against those of the authors' code.

The autoregressive models beside the VAEs are those that share their mixtures of logistics.
"""

from typing import Any

import torch
import yaml
from torch import nn

from genlab.distributions.pixel import Bernoulli, DiscretizedLogisticMixture
from genlab.models.autoregressive.pixel_cnn_pp import PixelCNNpp
from genlab.models.autoregressive.pixel_snail import PixelSNAIL
from genlab.models.vae.gated import Gated
from genlab.models.vae.hierarchical_vae import HierarchicalVAE
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.posteriors import DiagonalGaussian
from genlab.models.vae.priors import VampPrior
from genlab.models.vae.vae import VAE
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


def test_vamp_prior_on_mnist() -> None:
    """The layers of ``models/VAE.py`` of jmtomczak/vae_vampprior: 300-300, 40 latents, 500 pseudo-inputs."""
    shape = (1, 28, 28)
    prior = VampPrior(shape, 500, squash="hardtanh", first_mean=0.05)
    model = VAE(shape, Bernoulli(), Gated((300, 300)), ELBO(), DiagonalGaussian((-6.0, 2.0)), prior, latent_dim=40)
    encoder = 2 * (785 * 300) + 2 * (301 * 300) + 2 * (301 * 40)
    decoder = 2 * (41 * 300) + 2 * (301 * 300) + 301 * 784
    assert count(model) == encoder + decoder + 500 * 784


def weighted(inputs: int, outputs: int, taps: int) -> int:
    """Count a convolution with weight normalization: directions, lengths and biases."""
    return taps * inputs * outputs + 2 * outputs


def gated_resnet(channels: int, taps: int, beside: int = 0) -> int:
    """Count ``gated_resnet`` of openai/pixel-cnn, ``pixel_cnn_pp/nn.py``, which PixelSNAIL's code shares."""
    short_cut = weighted(2 * beside, channels, 1) if beside else 0
    return weighted(2 * channels, channels, taps) + short_cut + weighted(2 * channels, 2 * channels, taps)


def test_pixel_cnn_pp_on_cifar10() -> None:
    """``pixel_cnn_pp/model.py`` of openai/pixel-cnn with nr_filters 160 and nr_resnet 5, its defaults."""
    F, n = 160, 5
    first = weighted(4, F, 6) + weighted(4, F, 3) + weighted(4, F, 2)
    down = 3 * n * (gated_resnet(F, 6) + gated_resnet(F, 4, F)) + 2 * (weighted(F, F, 6) + weighted(F, F, 4))
    up = (3 * n + 2) * (gated_resnet(F, 6, F) + gated_resnet(F, 4, 2 * F)) + 2 * (weighted(F, F, 6) + weighted(F, F, 4))
    authors = first + down + up + weighted(F, 100, 1)
    assert authors == 53_659_080
    with torch.device("meta"):
        model = PixelCNNpp((3, 32, 32), DiscretizedLogisticMixture(256, 10), F, n, 3, weight_norm=True)
    assert count(model) == authors


def test_pixel_snail_on_cifar10() -> None:
    """``h12_noup_smallkey`` of neocxi/pixelsnail-public as its README trains it: nr_filters 256, nr_resnet 4 (default).

    The 46 million that tables of other papers print are half of it; with 2 residual blocks for each attention, which
    this code does not train with, there would be 53.6 million.
    """
    F = 256
    x, content, query = 4, 3 + F + 2, F + 2

    def authors(num_convs: int) -> int:
        first = weighted(x, F, 3) + weighted(x, F, 2)
        keys_and_values = gated_resnet(content, 1) + weighted(content, F // 2 + 16, 1)
        queries = gated_resnet(query, 1) + weighted(query, 16, 1)
        block = num_convs * gated_resnet(F, 4) + keys_and_values + queries + gated_resnet(F, 1, F // 2)
        return first + 12 * block + weighted(F, 100, 1)

    assert authors(4) == 91_371_816
    for num_convs in (4, 2):
        with torch.device("meta"):
            mixture = DiscretizedLogisticMixture(256, 10)
            model = PixelSNAIL((3, 32, 32), mixture, F, 12, num_convs, 16, 128, weight_norm=True, marked_keys=False)
        assert count(model) == authors(num_convs)
