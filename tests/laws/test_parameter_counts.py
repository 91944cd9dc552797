"""Numbers of parameters at the papers' settings, against the authors': models of bits and of text.

Flows, GANs and VAEs have files of their own beside this one; which model is counted where is listed here.
"""

from pathlib import Path

import pytest
import torch
from torch import nn

from genlab.composition.building import build
from genlab.composition.configs import composed
from genlab.models.transformer.gpt import GPT
from genlab.networks.ddpm_pp import DDPMpp
from genlab.networks.unet import UNet
from support.paths import CONF

D = 28 * 28

# Of an experiment: the number of parameters, by the formulas of the paper.
FORMULAS = {
    # A weight for each ordered pair of pixels, of which a mask leaves half, and a bias.
    "mnist_fvsbn": D**2 + D,
    # Section 2: W and V of D x H each, and their biases; NADE.py of the authors has the same four.
    "mnist_nade": 2 * D * 500 + 500 + D,
    # Equation 12: W and V, and their biases; mgermain/MADE without direct connections has the same.
    "mnist_made": 2 * D * 8000 + 8000 + D,
    # Figure 5: two layers of 200 units on each side and 50 latents; iwae.py of yburda/iwae has the same.
    "mnist_iwae5": 2 * (201 * 200) + (D + 1) * 200 + 2 * (201 * 50) + 51 * 200 + 201 * D,
    "mnist_iwae50": 2 * (201 * 200) + (D + 1) * 200 + 2 * (201 * 50) + 51 * 200 + 201 * D,
}

# Where the number of a model in conf/model is checked, or why there is nothing to check it against.
ELSEWHERE = {
    "autoregressive/pixel_cnn_pp": "vaes.py::test_pixel_cnn_pp_on_cifar10",
    "autoregressive/pixel_snail": "vaes.py::test_pixel_snail_on_cifar10",
    "flow/flow_plus_plus": "flows.py::test_flow_plus_plus_on_cifar10",
    "flow/glow": "flows.py::test_glow_on_cifar10",
    "gan/biggan": "gan.py::test_an_experiment_has_the_networks_of_its_authors",
    "gan/r3gan": "gan.py::test_an_experiment_has_the_networks_of_its_authors",
    "gan/sngan": "gan.py::test_an_experiment_has_the_networks_of_its_authors",
    "gan/studio_dcgan": "gan.py::test_an_experiment_has_the_networks_of_its_authors",
    "gan/stylegan2": "gan.py::test_an_experiment_has_the_networks_of_its_authors",
    "vae/hierarchical_vae": "vaes.py::test_vd_vae_on_cifar10",
    "vae/vamp_vae": "vaes.py::test_vamp_prior_on_mnist",
}
HERE = {
    "diffusion/ddpm",
    "autoregressive/fvsbn",
    "autoregressive/nade",
    "autoregressive/made",
    "vae/iwae",
    "transformer/gpt",
}
OWN_NETWORKS = "networks of this project's own; the paper is about another part"
NOT_PRINTED = "neither the paper nor code of its authors gives a number or a complete architecture"
UNCHECKED = {
    "autoregressive/diagonal_bilstm": NOT_PRINTED,
    "autoregressive/gated_pixel_cnn": NOT_PRINTED,
    "autoregressive/pixel_cnn": NOT_PRINTED,
    "autoregressive/row_lstm": NOT_PRINTED,
    "diffusion/edm": "the paper's networks are DDPM++ and NCSN++ of another paper",
    "diffusion/flow_matching": "the paper takes the network of another one, at sizes of its own",
    "diffusion/mean_flow": "the paper's network for CIFAR-10 is that of EDM",
    "flow/cnf": OWN_NETWORKS,
    "flow/glow_mixture": OWN_NETWORKS,
    "flow/glow_spline": "Neural Spline Flows (arXiv:1906.04032) prints 11.8 million for residual networks, not these",
    "flow/iaf": OWN_NETWORKS,
    "flow/maf": OWN_NETWORKS,
    "flow/naf": OWN_NETWORKS,
    "flow/nice": NOT_PRINTED,
    "flow/nsf": OWN_NETWORKS,
    "flow/nsf_coupling": OWN_NETWORKS,
    "flow/real_nvp": "the authors print none, and their code shares its scales otherwise; see docs/flows.md",
    "flow/real_nvp_points": OWN_NETWORKS,
    "gan/dcgan": "layers of the paper at other sides; gan/studio_dcgan is StudioGAN's network",
    "gan/mlp": OWN_NETWORKS,
    "transformer/image_gpt": "iGPT has no biases and another head; the authors print rounded numbers",
    "transformer/maskgit": "the authors' 227 million include their tokenizer",
    "transformer/vq_gpt": OWN_NETWORKS,
    "vae/beta_tc_vae": OWN_NETWORKS,
    "vae/beta_vae": OWN_NETWORKS,
    "vae/conv_vae": OWN_NETWORKS,
    "vae/iaf_vae": "a fully connected posterior, not the paper's residual ladder",
    "vae/info_vae": OWN_NETWORKS,
    "vae/planar_vae": OWN_NETWORKS,
    "vae/kl_autoencoder": OWN_NETWORKS,
    "vae/resnet_vae": OWN_NETWORKS,
    "vae/vae": OWN_NETWORKS,
    "vae/vq_vae": NOT_PRINTED,
    "vae/vq_vae2": NOT_PRINTED,
}


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


@pytest.mark.parametrize("name", FORMULAS)
def test_an_experiment_has_as_many_parameters_as_its_paper_says(name: str) -> None:
    model = build(composed("train", [f"experiment=paper/{name}"]).model, "model")
    assert count(model) == FORMULAS[name]


def test_nano_gpt_at_its_settings_for_a_cpu() -> None:
    """``model.py`` of karpathy/nanoGPT with n_layer 4, n_head 4, n_embd 128, block_size 64, 65 characters, bias False.

    Its README's "0.80M" is the number without position embeddings; biases of linear layers and norms are added here.
    """
    width, layers = 128, 4
    block = 3 * width**2 + width**2 + 8 * width**2 + 2 * width  # attention, output, feed-forward, gains of two norms
    authors = 65 * width + layers * block + width
    assert round(authors / 1e6, 2) == 0.80
    with torch.device("meta"):
        model = GPT((64,), 65, layers, 4, width)
    biases = sum(p.numel() for name, p in model.named_parameters() if name.endswith("bias"))
    assert count(model) - biases == authors + 64 * width
    assert biases == layers * (3 + 1 + 4 + 1 + 2) * width + width


def test_ddpm_on_cifar10() -> None:
    """``models/unet.py`` of hojonathanho/diffusion with ch 128, ch_mult 1, 2, 2, 2 and num_res_blocks 2."""

    def conv(inputs: int, outputs: int, side: int) -> int:
        return side**2 * inputs * outputs + outputs

    def block(inputs: int, outputs: int) -> int:
        shortcut = conv(inputs, outputs, 1) if inputs != outputs else 0
        return (
            2 * inputs
            + conv(inputs, outputs, 3)
            + conv(512, outputs, 1)
            + 2 * outputs
            + conv(outputs, outputs, 3)
            + shortcut
        )

    def attention(channels: int) -> int:
        return 2 * channels + 4 * conv(channels, channels, 1)

    authors = conv(128, 512, 1) + conv(512, 512, 1) + conv(3, 128, 3)
    authors += block(128, 128) * 2 + conv(128, 128, 3)  # 32x32, and a convolution with stride 2
    authors += block(128, 256) + block(256, 256) + 2 * attention(256) + conv(256, 256, 3)  # 16x16
    authors += block(256, 256) * 2 + conv(256, 256, 3) + block(256, 256) * 2  # 8x8 and 4x4
    authors += 2 * block(256, 256) + attention(256)
    authors += block(512, 256) * 3 + conv(256, 256, 3)  # up at 4x4
    authors += block(512, 256) * 3 + conv(256, 256, 3)  # 8x8
    authors += block(512, 256) * 2 + block(384, 256) + 3 * attention(256) + conv(256, 256, 3)  # 16x16
    authors += block(384, 128) + block(256, 128) * 2  # 32x32
    authors += 2 * 128 + conv(128, 3, 3)
    with torch.device("meta"):
        network = UNet(
            (3, 32, 32), width=128, multipliers=(1, 2, 2, 2), num_blocks=2, attention_levels=[1], scale_shift=False
        )
    assert count(network) == authors == 35_746_307


def test_ddpm_pp_on_cifar10() -> None:
    """``SongUNet`` of NVlabs/edm for ``--arch=ddpmpp`` on CIFAR-10, but for the input of its augmentation's labels."""

    def conv(inputs: int, outputs: int, side: int) -> int:
        return side**2 * inputs * outputs + outputs

    def block(inputs: int, outputs: int, attends: bool = False, resamples: bool = False) -> int:
        shortcut = conv(inputs, outputs, 1) if inputs != outputs or resamples else 0
        own = 2 * inputs + conv(inputs, outputs, 3) + conv(512, outputs, 1)
        attention = 2 * outputs + conv(outputs, 3 * outputs, 1) + conv(outputs, outputs, 1)
        return own + 2 * outputs + conv(outputs, outputs, 3) + shortcut + attends * attention

    authors = conv(128, 512, 1) + conv(512, 512, 1) + conv(3, 128, 3)
    authors += block(128, 256) + 3 * block(256, 256)  # 32x32
    authors += block(256, 256, resamples=True) + 4 * block(256, 256, attends=True)  # 16x16
    authors += block(256, 256, resamples=True) + 4 * block(256, 256)  # 8x8
    authors += block(256, 256, attends=True) + block(256, 256)  # the middle
    authors += 5 * block(512, 256)  # up at 8x8, to each block what was kept at this size, and before it was halved
    authors += block(256, 256, resamples=True) + 4 * block(512, 256) + block(512, 256, attends=True)  # 16x16
    authors += block(256, 256, resamples=True) + 4 * block(512, 256) + block(384, 256)  # 32x32
    authors += 2 * 256 + conv(256, 3, 3)
    with torch.device("meta"):
        network = DDPMpp((3, 32, 32), width=128)
    assert count(network) == authors
    assert round(authors / 1e6, 1) == 55.7


def test_every_model_is_counted_or_says_why_not() -> None:
    models = {path.relative_to(CONF / "model").with_suffix("").as_posix() for path in (CONF / "model").rglob("*.yaml")}
    counted = HERE | set(ELSEWHERE)
    assert counted.isdisjoint(UNCHECKED)
    assert models == counted | set(UNCHECKED)
    for place in ELSEWHERE.values():
        file, _, function = place.partition("::")
        assert f"def {function}(" in Path(__file__).with_name(f"test_parameter_counts_{file}").read_text("utf-8")
