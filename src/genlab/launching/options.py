"""Options of a run: the types of its own config values, its overrides, force, and absolute paths of its data."""

from pathlib import Path
from typing import Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict

from genlab.composition.building import coerced

# Types of the config values that no constructor takes, and so none checks.
TYPES = {
    "seed": int,
    "tags": list[str],
    "group": str | None,
    "name": str,
    "budget__images": int | None,
    "resume": str | None,
    "trainer__compile": bool | Literal["auto", "reduce-overhead"],
    "sweep__resume": str | None,
}


def overrides(without: str | None = None) -> list[str]:
    """Give this job's overrides as the user wrote them, without those that are about the command and not about the run.

    Args:
        without: further key to leave out.
    """
    given = list(HydraConfig.get().overrides.task)
    left_out = (without, "sweep.resume", "resume", "trust", "force")
    return [o for o in given if o.partition("=")[0].lstrip("+") not in left_out]


def take_force(cfg: DictConfig) -> bool:
    """Take ``force`` out of a composed config: it is of this launch alone, and is neither saved nor compared.

    Args:
        cfg: composed config of ``genlab train``.

    Raises:
        InputError: if it is no boolean.
    """
    with open_dict(cfg):
        return bool(coerced(cfg.pop("force", False), bool, "force"))


def absolute_paths(cfg: DictConfig) -> None:
    """Make the paths of data absolute, in place, so that the saved config finds the data from any folder.

    Args:
        cfg: composed config of ``genlab train``.
    """
    cfg.paths.data_dir = str(Path(cfg.paths.data_dir).expanduser().absolute())
    if cfg.dataset.get("run"):
        cfg.dataset.run = str(Path(cfg.dataset.run).expanduser().absolute())
    for node in (cfg.dataset.get("source"), cfg.get("tokenizer")):
        if node and "path" in node and not OmegaConf.is_missing(node, "path"):
            node.path = str(Path(node.path).expanduser().absolute())
