"""Continue a run: compose its config again from its overrides, and check that it has not changed."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from genlab.composition.building import checked, coerced, plain
from genlab.composition.configs import composed
from genlab.composition.path_keys import paths_in
from genlab.composition.renamed_groups import with_new_names
from genlab.composition.saved_overrides import checked_overrides
from genlab.composition.trust import check_all, check_resolved, remember, without_trust
from genlab.errors import InputError
from genlab.launching.agreement import check_meeting, together
from genlab.launching.begin import begin_job
from genlab.launching.disk import disk_errors
from genlab.launching.initial import built
from genlab.launching.job import check_trainer, check_weights
from genlab.launching.meeting import NODE
from genlab.launching.nodes import Nodes
from genlab.launching.objects import NONE, Objects
from genlab.launching.options import TYPES, absolute_paths, overrides, take_force
from genlab.launching.processes import check_shares, follow, num_nodes, num_processes, start
from genlab.loggers.packages import check_loggers
from genlab.machine.files import write_atomically
from genlab.machine.process import as_launched
from genlab.runs.budget import check_budget
from genlab.runs.checkpoints import BEFORE, NEWEST
from genlab.runs.config import below, config_to_build
from genlab.runs.exported import is_exported
from genlab.runs.folder import CONFIG, METRICS, STATUS, SUMMARY, RunFolder
from genlab.runs.lock import held
from genlab.runs.moved import as_begun, choices_today, current
from genlab.runs.resuming import check_not_running, check_unchanged, newest_checkpoint
from genlab.runs.rows import count_rows
from genlab.training.parts import Parts
from genlab.training.trainer_settings import trainer_options

# Keys whose values are relative to the folder, or chosen for the device, that the run was first started on; and so are
# the paths of its data.
OF_THE_FIRST_START = (
    "paths.data_dir",
    "paths.output_dir",
    "dataset.source.header",  # of tables: a run of an earlier version keeps the rule by which it read its file
    "trainer.precision",
    "trainer.tf32",
    "trainer.compile",  # which trainer.tune may have chosen
    "init_sha256",
)


@dataclass(frozen=True)
class _Checked:
    """A run that may be continued.

    Attributes:
        status: content of its ``status.json``.
        config: config to continue with, as plain values.
        parts: parts built from the config, with the weights of the checkpoint.
        checkpoint: path of its newest checkpoint, and how many images it has seen; None without a checkpoint.
        details: what its status is to say.
    """

    status: dict[str, Any]
    config: dict[str, Any]
    parts: Parts
    checkpoint: tuple[Path, int] | None
    details: dict[str, Any]


def resume_alone(folder: RunFolder, changes: list[str], force: bool = False, objects: Objects = NONE) -> float | None:
    """Hold the folder of a run, and continue the run; on several machines, the first of them holds it.

    Args:
        folder: folder of the run.
        changes: overrides to apply after the run's own.
        force: whether to go on though another machine may still train the run.
        objects: callbacks and loggers of this process beside those of the config.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        InputError: as :func:`resume`, or if another process works in the folder.
    """
    several = _asks_for_nodes(folder, changes)
    with nullcontext() if several else held(folder.path, force):
        return resume(folder, changes, force, objects)


def _asks_for_nodes(folder: RunFolder, changes: list[str]) -> bool:
    """Tell whether a run is to go on on several machines, of which only one may hold its folder."""
    trainer = config_to_build(folder).get("trainer")  # what is wrong with it is said where the run is built
    num: Any = trainer.get("num_nodes", 1) if isinstance(trainer, Mapping) else 1
    for change in changes:
        key, _, value = change.partition("=")
        if key.lstrip("+") == "trainer.num_nodes":
            num = value
    return str(num) != "1"


def resume(folder: RunFolder, changes: list[str], force: bool = False, objects: Objects = NONE) -> float | None:
    """Continue a run from its newest checkpoint; what is refused is refused before anything is written.

    Args:
        folder: folder of the run. This process holds it; not so on several machines, of which the first holds it when
            all have joined.
        changes: overrides to apply after the run's own.
        force: whether to go on though another machine may still train the run.
        objects: callbacks and loggers of this process beside those of the config.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        InputError: if the run is done or is running, or if its config or its data has changed where it must not.
    """
    ready = _checked(folder, changes, force)
    objects.check_alone(num_processes(ready.config["trainer"]) * num_nodes(ready.config["trainer"]) == 1)
    with together(ready.config, ready.parts, ready.checkpoint) as nodes:
        if nodes is None:
            return _go_on(folder, ready, objects=objects)
        if nodes.rank > 0:
            return follow(RunFolder(nodes.find()), ready.config, nodes)
        with held(folder.path, force):
            if folder.read_json(STATUS) != ready.status:
                raise InputError(f"{folder.path} has changed while the nodes joined: another process has worked in it")
            nodes.show(folder.path)
            return _go_on(folder, ready, nodes)


def _go_on(folder: RunFolder, ready: _Checked, nodes: Nodes | None = None, objects: Objects = NONE) -> float | None:
    remember(ready.config)
    done = ready.status.get("status") == "done"
    with disk_errors(folder.path), unharmed(folder) if done else nullcontext():
        write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(ready.config)))
        folder.set_status("running", **ready.details, **objects.facts())
        return start(folder, ready.config, ready.parts, nodes, objects)


def _checked(folder: RunFolder, changes: list[str], force: bool) -> _Checked:
    """Compose the config of a run again, and check that it may be continued; nothing is written."""
    status = folder.read_json(STATUS)
    if "overrides" not in status:
        raise InputError(f"{folder.path} cannot be resumed: {STATUS} does not say what it was started with")
    if is_exported(folder):
        raise InputError(
            f"{folder.path} is exported, and has nothing to go on from: init={folder.path} starts a new run"
        )
    if not force:
        check_not_running(folder, status)
    saved = config_to_build(folder)
    begun = choices_today(checked_overrides(status["overrides"], folder.path / STATUS), saved)
    told = [*begun, *_earlier_changes(folder, status, changes)]
    around = HydraConfig.instance().cfg  # config of the sweep, if this run is a job of one; composing replaces it
    cfg = composed("train", [*told, *changes])
    HydraConfig.instance().cfg = around
    without_trust(cfg)
    take_force(cfg)
    changed = {change.partition("=")[0].lstrip("+") for change in changes}
    for key in OF_THE_FIRST_START:
        if key not in changed and (value := OmegaConf.select(OmegaConf.create(saved), key)) is not None:
            OmegaConf.update(cfg, key, value)
    still = dict(paths_in(OmegaConf.to_container(cfg, resolve=False)))
    for key, value in paths_in(saved):
        if key in still and not any(below(key, [name.replace("/", ".")]) for name in changed):
            OmegaConf.update(cfg, key, value)
    cfg.run_dir = str(folder.path)
    for key in ("run_id", "run_name", "group"):
        cfg[key] = saved.get(key)
    absolute_paths(cfg)
    # An override may name a class by an old import path, or a file of conf/ that has another content today.
    config = as_begun(current(plain(cfg, **TYPES)), saved, changed)
    check_resolved(config)
    check_all(config)
    budget = check_unchanged(folder, saved, config)
    checked(trainer_options(config), "trainer")
    check_loggers(config["logger"])
    coerced(config["training"].get("images"), int | None, "training.images")
    done = status.get("status") == "done"
    found = newest_checkpoint(folder, put_aside=False)
    check_budget(folder, done, budget, config, None if found is None else found[1])
    where = check_meeting(config["trainer"])
    processes = num_processes(config["trainer"])
    parts = built(config, found)  # refuses other data before anything is written
    check_shares(config, parts)
    if processes == 1 and where is None:
        check_trainer(config, parts)
    if found is not None:
        check_weights(found[0], found[1], parts)
    this = {"changes": changes, "after": status.get("status")}
    details: dict[str, Any] = {"resumed": [*status.get("resumed", []), this]}
    if budget:
        details["trained"] = False
    if done and found is not None and found[0].name == NEWEST:
        details["finished"] = {"rows_logged": found[1]["progress"]["rows_logged"], "rows": count_rows(folder)}
    checkpoint = None if found is None else (found[0], int(found[1]["progress"]["images_seen"]))
    return _Checked(status, config, parts, checkpoint, details)


def _earlier_changes(folder: RunFolder, status: Mapping[str, Any], changes: list[str]) -> list[str]:
    """Collect the overrides that earlier resumes changed and this one does not: the run goes on as it was last told."""
    entries = status.get("resumed", [])
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise InputError(f"{folder.path / STATUS} is damaged (its resumed is no list of changes)")
    latest: dict[str, str] = {}
    for entry in entries:
        for change in checked_overrides(entry.get("changes", []), folder.path / STATUS):
            latest[change.partition("=")[0]] = change
    now = {change.partition("=")[0] for change in changes}
    return [change for key, change in latest.items() if key not in now]


@contextmanager
def unharmed(folder: RunFolder) -> Iterator[None]:
    """Put the files of a finished run back if it fails before it has got any further.

    Args:
        folder: folder of the run.
    """
    kept = {
        name: (folder.path / name).read_bytes() for name in (CONFIG, STATUS, METRICS) if (folder.path / name).is_file()
    }
    last = folder.checkpoints / NEWEST
    before = last.stat() if last.is_file() else None
    try:
        yield
    except BaseException:
        now = last.stat() if last.is_file() else None
        if (before and (before.st_ino, before.st_mtime_ns)) == (now and (now.st_ino, now.st_mtime_ns)):
            with suppress(OSError):
                for name, content in kept.items():
                    write_atomically(folder.path / name, content)
        raise


def job_of_sweep(cfg: DictConfig, folder: RunFolder, force: bool) -> float | None:
    """Begin a job of a sweep in its folder, or continue it if the sweep was launched before.

    Args:
        cfg: composed config of the job.
        folder: folder of the job, which may not exist yet.
        force: whether to go on though another machine may still train the run.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        InputError: if anything in the config is wrong, if the folder holds a different job, or if another process works
            in it.
    """
    if num_nodes(cfg.trainer) > 1:
        return _job_on_nodes(cfg, folder, force)
    with disk_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
    with disk_errors(folder.path), held(folder.path, force):
        if (folder.path / STATUS).is_file():
            return continue_job(cfg, folder, force)
        # A folder without a status is one that was cut off before its job began.
        if newest := next(
            (folder.checkpoints / n for n in (NEWEST, BEFORE) if (folder.checkpoints / n).is_file()), None
        ):
            raise InputError(f"{newest}: there is no {STATUS} that says what it is of; move {folder.path} away")
        return begin_job(cfg, folder)


def _job_on_nodes(cfg: DictConfig, folder: RunFolder, force: bool) -> float | None:
    """Begin or continue a job of a sweep on several machines, on each of which SLURM or Ray has started it.

    Each looks at the folder before it has met the others, and the first writes there only afterwards.
    """
    if not {"SLURM_STEP_NUM_TASKS", NODE} & as_launched().keys():
        raise InputError(
            f"trainer.num_nodes={cfg.trainer.num_nodes}: in a sweep, only hydra/launcher=slurm and ray_cluster start "
            "jobs on several machines; without -m, start the command on each of them (docs/machines.md)"
        )
    if (folder.path / STATUS).is_file():
        return continue_job(cfg, folder, force)
    with disk_errors(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
        return begin_job(cfg, folder, force)


def continue_job(cfg: DictConfig, folder: RunFolder, force: bool = False) -> float | None:
    """Continue a job of a sweep that is launched again: return its result if it is done, resume it if it is not.

    Args:
        cfg: composed config of the job.
        folder: folder of the job. This process holds it, but not on several machines.
        force: whether to go on though another machine may still train the run.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        InputError: if the folder holds a different job.
    """
    status = folder.read_json(STATUS)
    if with_new_names(status.get("overrides", [])) != with_new_names(overrides()):
        raise InputError(
            f"{folder.path} is another job than this one: it was started with {' '.join(status.get('overrides', []))}"
        )
    if status.get("begun") is False:  # its config was wrong, so the folder holds nothing to keep
        if (where := check_meeting(cfg.trainer)) is None or where.rank == 0:
            folder.clear()
        return begin_job(cfg, folder, force)
    if status.get("status") == "done":
        best = folder.read_json(SUMMARY)["monitor"]["best"]
        return None if best is None else float(best)
    return resume(folder, [], force)
