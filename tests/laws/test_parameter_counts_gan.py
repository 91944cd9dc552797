"""GANs at the settings of published trainings have exactly as many parameters as their authors' networks."""

import pytest
import torch

from genlab.composition.building import build
from genlab.composition.configs import composed
from genlab.models.adversarial import AdversarialModel
from genlab.models.gan.sngan import SNGAN
from genlab.models.gan.stylegan2 import StyleGAN2


def counts(model: AdversarialModel) -> tuple[int, int]:
    """Count the parameters of G and of D."""
    return (
        sum(p.numel() for p in model.generator.parameters()),
        sum(p.numel() for p in model.discriminator.parameters()),
    )


# Of each experiment in conf/experiment/paper: the parameters of G and of D, and where the number is from.
AUTHORS = {
    # The authors' PyTorch code (stylegan2-ada-pytorch), its networks for cfg=cifar with ten classes, instantiated.
    "cifar10_stylegan2_ada": (20_215_315, 23_089_664),
    # StudioGAN's src/models/deep_conv.py with the defaults of its src/config.py, counted by hand layer by layer.
    "cifar10_dcgan": (3_812_355, 2_931_009),
    # The authors' PyTorch code (R3GAN), its preset for CIFAR-10, instantiated.
    "cifar10_r3gan": (20_781_952, 21_280_512),
    # The authors' Chainer code, its residual networks for images of 32x32, counted by hand.
    "cifar10_sngan": (4_276_739, 1_053_825),
    # mimicry's nets/wgan_gp/wgan_gp_32.py with its defaults, D without layer normalization, counted by hand.
    "cifar10_wgan_gp": (4_276_739, 1_053_825),
    # BigGAN-PyTorch at its settings for CIFAR-10 with a shared embedding and a hierarchical z, instantiated; as
    # DiffAugment ran it, with neither, G has 4,304,387.
    "cifar10_biggan_diffaugment": (4_373_251, 4_207_361),
}


@pytest.mark.parametrize("name", AUTHORS)
def test_an_experiment_has_the_networks_of_its_authors(name: str) -> None:
    cfg = composed("train", [f"experiment=paper/{name}"])
    with torch.device("meta"):
        model = build(cfg.model, "model")
    assert isinstance(model, AdversarialModel)
    assert counts(model) == AUTHORS[name]


def test_stylegan2_without_classes_has_the_networks_of_its_authors() -> None:
    """The same networks without classes: the authors' cfg=cifar, instantiated."""
    with torch.device("meta"):
        model = StyleGAN2(
            (3, 32, 32), None, mapping_layers=2, channel_base=32768, architecture="plain", minibatch_std=32
        )
    assert counts(model) == (19_947_539, 20_720_641)


def test_wgan_gp_has_the_networks_of_its_paper() -> None:
    """The authors' TensorFlow code for CIFAR-10 with 128 channels in both networks, counted by hand."""
    with torch.device("meta"):
        model = SNGAN((3, 32, 32), channels=128, normalization="none", pooling="mean")
    assert counts(model) == (1_204_483, 1_053_825)
