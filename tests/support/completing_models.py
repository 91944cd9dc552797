"""The catalogue's autoregressive models of images, away from where they begin."""

import re

import torch

from genlab.composition.building import located
from genlab.models.base import AutoregressiveModel
from support.catalogue import IMAGE_MODELS, make
from support.paths import CONF


def is_autoregressive(name: str) -> bool:
    target = re.search(r"^  _target_: (\S+)", (CONF / "model" / f"{name}.yaml").read_text(), re.MULTILINE)
    found = located(target[1], name) if target else None
    return isinstance(found, type) and issubclass(found, AutoregressiveModel)


NAMES = [name for name in IMAGE_MODELS if is_autoregressive(name)]


def perturbed(name: str, shape: tuple[int, ...], levels: int, num_classes: int | None = None) -> AutoregressiveModel:
    """Away from the uniform distribution that most begin with."""
    model = make(name, shape, levels, num_classes).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    assert isinstance(model, AutoregressiveModel)
    return model
