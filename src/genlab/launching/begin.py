"""Begin a new run: check its config, build its parts, claim its folder and save the config there."""

import shlex
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from genlab.composition.building import plain
from genlab.composition.explaining import explain
from genlab.composition.resolvers import unique_name
from genlab.launching.options import TYPES, absolute_paths, overrides
from genlab.launching.processes import num_processes, start
from genlab.loggers.wandb import check_environment
from genlab.machine.files import write_atomically
from genlab.runs.folder import CONFIG, RunFolder
from genlab.training.parts import assemble, check_kind


def begin(cfg: DictConfig, planned: Path) -> float | None:
    """Train a new run in the planned folder, or in one beside it if that is taken.

    Args:
        cfg: composed config of ``genlab train``, in which the run's folder and names are set.
        planned: folder given by :func:`planned_folder`.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        InputError: if anything in the config is wrong; a job of a sweep leaves a folder that says so.
    """
    cfg.run_dir = str(planned)
    try:
        absolute_paths(cfg)
        check_kind(cfg)
        config = plain(cfg, **TYPES)
        num_processes(config["trainer"])
        parts = assemble(config)
        if (config["logger"] or {}).get("wandb"):
            check_environment()
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # so that the sweep's table shows the failure
            folder = RunFolder.claim(planned)
            write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(cfg))
            folder.set_status("failed", reason=line, overrides=overrides(), begun=False)
        raise
    folder = RunFolder.claim(planned)
    cfg.run_dir, cfg.run_id = str(folder.path), unique_name().rpartition("-")[2]
    _name_for_people(cfg, folder.path)
    config = plain(cfg, **TYPES)
    write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
    folder.set_status("running", command=_command(), overrides=overrides())
    return start(folder, config, parts)


def planned_folder(cfg: DictConfig) -> Path:
    """Choose a run's folder: ``outputs/<experiment or model-dataset>/<unique name>``, or a sweep's folder and number.

    Args:
        cfg: composed config of ``genlab train``.
    """
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        return Path(hydra_config.sweep.dir, str(hydra_config.job.num))
    return Path(cfg.paths.output_dir, cfg.name, unique_name())


def _name_for_people(cfg: DictConfig, folder: Path) -> None:
    """Set the name that W&B shows: ``vae-digits-3f2a`` for a single run, ``quickstart-2`` for a job of a sweep.

    A sweep's folder becomes the group of its jobs.
    """
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        cfg.run_name = f"{cfg.name}-{folder.name}"
        cfg.group = cfg.group or f"{folder.parent.parent.name}/{folder.parent.name}"
    else:
        cfg.run_name = f"{cfg.name}-{cfg.run_id[:4]}"


def _command() -> str:
    return shlex.join(["genlab", "train", *HydraConfig.get().overrides.task])
