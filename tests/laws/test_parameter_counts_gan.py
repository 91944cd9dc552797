"""GANs at the settings of published trainings have exactly as many parameters as their authors' networks."""

import pytest
import torch

from genlab.composition.building import build
from genlab.composition.configs import composed
from genlab.models.base import AdversarialModel
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
