"""Options of a run: the types of its own config values, its overrides, force, and absolute paths of its data."""

from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, Literal

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from pydantic import Field

from genlab.composition.building import coerced
from genlab.composition.path_keys import is_path, paths_in

# Types of the config values that no constructor takes, and so none checks.
TYPES = {
    "seed": Annotated[int, Field(ge=0, le=2**32 - 1)],  # what NumPy takes
    "tags": list[str],
    "group": str | None,
    "notes": str | None,
    "name": str,
    "evaluations": list[list[str]],
    "budget__images": int | None,
    "resume": str | None,
    "init": str | None,
    "init_weights": Literal["raw", "ema"] | float | None,
    "init_sha256": str | None,
    "trainer__compile": bool | Literal["auto", "reduce-overhead"],
    "trainer__tf32": bool,
    "trainer__tune": Literal["off", "auto"],
    "trainer__tune_precision": bool,
    "trainer__tune_seconds": float,
    "sweep__resume": str | None,
}


def overrides(without: str | None = None) -> list[str]:
    """Give this job's overrides as the user wrote them, without those that are about the command and not about the run.

    Args:
        without: further key to leave out.
    """
    return _of_run(HydraConfig.get().overrides.task, without)


def overrides_of(config: DictConfig) -> list[str]:
    """Give the overrides of a job, as :func:`overrides` does.

    Args:
        config: composed config of the job, with Hydra's own.
    """
    return _of_run(config.hydra.overrides.task)


def _of_run(texts: Any, without: str | None = None) -> list[str]:
    given = _resolved(texts)
    left_out = (without, "sweep.resume", "resume", "trust", "force")
    return [o for o in given if o.partition("=")[0].lstrip("+") not in left_out]


def _resolved(texts: Any) -> list[str]:
    """Resolve the interpolations in texts, such as ``seed=${oc.env:SEED}``; one that cannot be resolved stays."""
    raw: Any = OmegaConf.to_container(texts, resolve=False)
    for i in range(len(raw)):
        with suppress(OmegaConfBaseException):
            raw[i] = texts[i]
    return list(raw)


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
    cfg.paths.data_dir = _absolute(cfg.paths.data_dir)
    for key, value in paths_in(OmegaConf.to_container(cfg, resolve=False)):
        if value == "???" or "run_dir" in value:  # what a run writes
            continue
        if "${" in value:
            try:
                value = OmegaConf.select(cfg, key)
            except OmegaConfBaseException:  # said with its key when the config is resolved
                continue
        if is_path(key, value) and _absolute(value) != value:
            OmegaConf.update(cfg, key, _absolute(value))


def _absolute(path: str) -> str:
    return str(Path(path).expanduser().absolute())
