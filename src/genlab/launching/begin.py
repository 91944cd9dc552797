"""Begin a new run: check its config, build its parts, claim its folder and save the config there."""

import shlex
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from genlab.composition.building import plain
from genlab.composition.explaining import explain, first_line
from genlab.composition.in_force import check_in_force
from genlab.composition.resolvers import unique_name
from genlab.composition.trust import check_resolved, remember
from genlab.errors import InputError
from genlab.launching.agreement import check_meeting, together
from genlab.launching.disk import disk_errors
from genlab.launching.initial import FILE as INIT
from genlab.launching.initial import built
from genlab.launching.monitor import check_monitor
from genlab.launching.nodes import Nodes
from genlab.launching.objects import NONE, Objects
from genlab.launching.options import TYPES, absolute_paths, overrides
from genlab.launching.processes import check_shares, follow, num_nodes, num_processes, start
from genlab.loggers.packages import check_loggers
from genlab.machine.files import write_atomically
from genlab.metrics.published import Published
from genlab.runs.folder import CONFIG, RunFolder
from genlab.runs.lock import held
from genlab.training.parts import Parts, check_kind
from genlab.tuning.candidates import Tuning
from genlab.tuning.tune import FILE, tuned


def begin(cfg: DictConfig, planned: Path, objects: Objects = NONE) -> float | None:
    """Train a new single run in the planned folder, or in one beside it if that is taken.

    On several machines, all of them call this, and node 0 claims the folder.

    Args:
        cfg: composed config of ``genlab train``, in which the run's folder and names are set.
        planned: folder given by :func:`planned_folder`.
        objects: callbacks and loggers of this process beside those of the config.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        InputError: if anything in the config is wrong, or the machines do not agree; raised before a folder is made.
    """
    cfg.run_dir = str(planned)
    config, parts, tuning = _prepared(cfg)
    objects.check_alone(num_processes(config["trainer"]) * num_nodes(config["trainer"]) == 1)
    chosen = tuned(config, parts, tuning, overrides())
    with together(config, parts) as nodes:
        if nodes is not None:
            planned = planned.absolute()
        if nodes is not None and nodes.rank > 0:
            return follow(RunFolder(nodes.find()), config, nodes)
        with disk_errors(planned):
            folder = RunFolder.claim(planned)
        if nodes is not None:
            _show_new(folder, nodes)
        with disk_errors(folder.path), held(folder.path):
            return _start(cfg, folder, parts, nodes, chosen, objects)


def _show_new(folder: RunFolder, nodes: Nodes) -> None:
    """Show a new folder to the other nodes; remove it if they do not see it, as nothing has begun."""
    try:
        nodes.show(folder.path)
    except BaseException:
        shutil.rmtree(folder.path, ignore_errors=True)
        raise


def begin_job(cfg: DictConfig, folder: RunFolder, force: bool = False) -> float | None:
    """Train a new run in the folder of its job in a sweep.

    Args:
        cfg: composed config of the job, in which the run's names are set.
        folder: folder of the job, in which nothing has begun. This process holds it; not so on several machines, of
            which the first holds it when all have joined.
        force: on several machines, whether to hold it though a process on another machine may still work in it.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        InputError: if anything in the config is wrong; the folder then says so.
    """
    cfg.run_dir = str(folder.path)
    where = check_meeting(cfg.trainer)
    try:
        config, parts, tuning = _prepared(cfg)
    except Exception as error:  # so that the sweep's table shows the failure
        if where is not None and where.rank != 0:
            raise
        folder.make()
        reason = explain(error) or f"{type(error).__name__}: {first_line(error)}"
        cfg.choices = OmegaConf.to_container(cfg.choices, resolve=True)  # the rest may be what is wrong
        write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(cfg))
        folder.set_status("failed", reason=reason, overrides=overrides(), begun=False)
        raise
    chosen = tuned(config, parts, tuning, overrides(), sweep=folder.path.parent)
    with together(config, parts) as nodes:
        if nodes is not None and nodes.rank > 0:
            return follow(RunFolder(nodes.find()), config, nodes)
        folder.make()
        with nullcontext() if nodes is None else held(folder.path, force):
            if nodes is not None:
                nodes.show(folder.path)
            return _start(cfg, folder, parts, nodes, chosen)


def _prepared(cfg: DictConfig) -> tuple[dict[str, Any], Parts, Tuning]:
    check_meeting(cfg.trainer)
    absolute_paths(cfg)
    check_kind(cfg)
    config = plain(cfg, **TYPES)
    check_in_force(cfg, overrides())
    check_resolved(config)  # otherwise the run could not be opened again
    if config["reference"] is not None:
        Published.from_config(config["reference"])
    tuning = Tuning.from_config(config["trainer"], num_processes(config["trainer"]) * num_nodes(config["trainer"]))
    parts = built(config)
    if parts.match is not None:
        config["init_sha256"] = cfg.init_sha256 = parts.match.sha256
    check_shares(config, parts)
    check_monitor(config, parts, overrides())
    check_loggers(config["logger"])
    return config, parts, tuning


def _start(
    cfg: DictConfig,
    folder: RunFolder,
    parts: Parts,
    nodes: Nodes | None,
    chosen: dict[str, Any] | None,
    objects: Objects = NONE,
) -> float | None:
    if chosen is not None:
        with open_dict(cfg):  # a trainer of the user's own may lack keys of genlab's
            cfg.trainer.update(chosen["chosen"])
        folder.write_json(FILE, chosen)
    cfg.run_dir, cfg.run_id = str(folder.path), unique_name().rpartition("-")[2]
    _name_for_people(cfg, folder.path)
    config = plain(cfg, **TYPES)
    write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
    if parts.match is not None:
        folder.write_json(INIT, parts.match.to_json())
    folder.set_status("running", command=_command(), overrides=overrides(), **objects.facts())
    remember(config)
    return start(folder, config, parts, nodes, objects)


def planned_folder(cfg: DictConfig) -> Path:
    """Choose a run's folder: ``outputs/<experiment or model-dataset>/<unique name>``, or a sweep's folder and number.

    Args:
        cfg: composed config of ``genlab train``.

    Raises:
        InputError: if a single run is to continue a sweep.
    """
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        return Path(hydra_config.sweep.dir, str(hydra_config.job.num))
    if cfg.sweep.resume is not None:
        raise InputError(f"sweep.resume={cfg.sweep.resume} continues a sweep: add -m; resume=FOLDER continues a run")
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
