"""The catalogue's flows of points, and data for them."""

import copy
from functools import cache
from typing import Any

import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor

from genlab.composition.building import build
from genlab.models.flow.zuko_flow import ZukoFlow
from support.paths import CONF

FLOWS = sorted(p.stem for p in (CONF / "model" / "flow").glob("*.yaml") if "zuko_flow" in p.read_text())
# Their inverse is bisection, or an integral is a solver's.
NUMERICAL = {"naf": 1e-4, "cnf": 1e-3}


@cache
def config_of(name: str, dims: int, num_classes: int | None, double: bool) -> dict[str, Any]:
    """Compose the config of a flow of points, once: composing takes longer than most tests."""
    classes = "null" if num_classes is None else num_classes
    options = [f"dataset.shape=[{dims}]", f"model.double={double}", f"model.num_classes={classes}"]
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"model=flow/{name}", "dataset=ring2d", *options])
    config: dict[str, Any] = OmegaConf.to_container(cfg.model, resolve=True)  # type: ignore[assignment]
    return config


def make(
    name: str, dims: int = 2, num_classes: int | None = None, double: bool = False, noise: float = 0.1
) -> ZukoFlow:
    """A flow in evaluation mode, of data that are neither centred nor of width 1, with noise on its weights."""
    torch.manual_seed(0)
    model = build(copy.deepcopy(config_of(name, dims, num_classes, double)), "model")
    model.initialize(*data_like(dims))
    for parameter in model.parameters():
        parameter.data += noise * torch.randn_like(parameter)
    return model.eval()


def data_like(dims: int, num: int = 1000) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    scale = torch.linspace(0.5, 2.0, dims)
    return 3 + scale * torch.randn(num, dims, generator=generator), torch.arange(num) % 3
