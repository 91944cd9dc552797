"""Every model of ``conf/model`` as its config makes it, and data for it."""

import copy
import re
from collections.abc import Set
from functools import cache

import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf, open_dict

from genlab.composition.building import build, located
from genlab.models.base import GenerativeModel
from support.paths import CONF

ALL = sorted(str(p.relative_to(CONF / "model").with_suffix("")) for p in (CONF / "model").rglob("*.yaml"))


def kinds_of(name: str) -> Set[str]:
    """Read the kinds of data of the class that a file names; a variant that names none is of an image model."""
    found = re.search(r"^model:\n  _target_: (\S+)", (CONF / "model" / f"{name}.yaml").read_text(), re.MULTILINE)
    return located(found[1], name).kinds if found else GenerativeModel.kinds


TEXT_MODELS = [name for name in ALL if kinds_of(name) == {"tokens"}]
MODELS = [name for name in ALL if name not in TEXT_MODELS]
IMAGE_MODELS = [name for name in MODELS if kinds_of(name) & {"image", "binary", "codes"}]
POINT_MODELS = [name for name in MODELS if "points" in kinds_of(name)]


@cache
def composed(name: str) -> DictConfig:
    """Compose the training config of a model: a seventh of a second, which most tests would take for every model."""
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", [f"model={name}"], return_hydra_config=False)


def make(name: str, shape: tuple[int, ...], levels: int, num_classes: int | None = None) -> GenerativeModel:
    cfg = copy.deepcopy(composed(name))
    with open_dict(cfg):
        cfg.choices = {}
        cfg.name = ""
        cfg.dataset.shape, cfg.dataset.levels = list(shape), levels
        cfg.dataset.kind = "points" if len(shape) == 1 else "binary" if levels == 2 else "image"
        cfg.model.num_classes = num_classes
    torch.manual_seed(0)
    return build(OmegaConf.to_container(cfg.model, resolve=True), "model")


def batch(shape: tuple[int, ...], levels: int, size: int = 4) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(levels, (size, *shape), generator=generator) / (levels - 1)


def example(name: str) -> tuple[tuple[int, ...], int]:
    """Give the shape and levels of data that the model can learn: images where it can."""
    return ((1, 8, 8) if name in IMAGE_MODELS else (2,), 17)
