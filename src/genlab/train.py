"""``genlab train``: compose a model, a dataset and a trainer, train, and measure what came out."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from genlab.composition.command_line import as_groups
from genlab.composition.configs import composed, conf_dir
from genlab.composition.explaining import explain, one_line_errors
from genlab.composition.renamed_groups import with_new_names
from genlab.composition.resolvers import unique_name
from genlab.errors import InputError, Interrupted

if TYPE_CHECKING:
    from genlab.runs.folder import RunFolder
    from genlab.runs.loading import Run


# Of the values that no constructor takes.
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


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
@one_line_errors
def _main(cfg: DictConfig) -> float | None:
    try:
        return train(cfg)
    except Interrupted as stop:
        stop.pass_on()  # here, for a launcher calls this function in processes that know no main()
        raise


def main() -> None:
    from genlab.sweeps import finished

    try:
        with finished():
            _main()
    except Interrupted as stop:
        sys.exit(128 + stop.number)


def train(cfg: DictConfig) -> float | None:
    """Train, measure and write the run folder; gives the best value of the monitored metric to a sweeper.

    A folder that is there already, because ``resume`` names it or because the sweep it belongs to is launched again, is
    gone on with.

    Raises:
        InputError: for anything wrong in the config, before a folder is made or a step is taken.
        Interrupted: where a signal ended the run, after its state was saved.
    """
    from genlab.runs.folder import STATUS, RunFolder
    from genlab.runs.process import keep_freed_memory, quiet_libraries

    quiet_libraries()
    keep_freed_memory()
    if cfg.resume is not None:
        return _resume(RunFolder.open(str(cfg.resume)), _overrides(without="resume"))
    planned = _planned_folder(cfg)
    if HydraConfig.get().mode == RunMode.MULTIRUN and (planned / STATUS).is_file():
        return _go_on_with_job(cfg, RunFolder(planned))
    return _begin(cfg, planned)


def launch(*overrides: str) -> "Run":
    """``genlab train`` from Python: the same overrides, as strings; gives the finished run.

    Raises:
        InputError: for a wrong override or value.
    """
    from genlab.runs.loading import load

    try:
        cfg = composed("train", as_groups(overrides))
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        raise InputError(line) from error
    train(cfg)
    return load(cfg.run_dir or cfg.resume)


# -- a new run ---------------------------------------------------------------------------------------------------------


def _begin(cfg: DictConfig, planned: Path) -> float | None:
    from genlab.composition.building import plain
    from genlab.files import write_atomically
    from genlab.runs.folder import CONFIG, RunFolder
    from genlab.worker import assemble

    cfg.run_dir = str(planned)
    try:
        _absolute_paths(cfg)
        config = plain(cfg, **TYPES)
        _num_processes(config["trainer"])
        parts = assemble(config)
    except InputError as error:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # the sweep's table must have it
            folder = RunFolder.claim(planned)
            write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(cfg))
            folder.set_status("failed", reason=str(error), overrides=_overrides(), begun=False)
        raise
    folder = RunFolder.claim(planned)
    cfg.run_dir, cfg.run_id = str(folder.path), unique_name().rpartition("-")[2]
    _name_for_people(cfg, folder.path)
    config = plain(cfg, **TYPES)
    write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
    folder.set_status("running", command=_command(), overrides=_overrides())
    return _start(folder, config, parts)


def _planned_folder(cfg: DictConfig) -> Path:
    """``outputs/<experiment or model-dataset>/<unique>``, or a number inside the sweep's folder."""
    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        return Path(hydra_config.sweep.dir, str(hydra_config.job.num))
    return Path(cfg.paths.output_dir, cfg.name, unique_name())


def _name_for_people(cfg: DictConfig, folder: Path) -> None:
    """``vae-digits-3f2a`` for a run alone, ``quickstart-2`` for a job of a sweep, whose group is the sweep's folder."""
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        cfg.run_name = f"{cfg.name}-{folder.name}"
        cfg.group = cfg.group or f"{folder.parent.parent.name}/{folder.parent.name}"
    else:
        cfg.run_name = f"{cfg.name}-{cfg.run_id[:4]}"


def _absolute_paths(cfg: DictConfig) -> None:
    """The saved config must find the data from any folder."""
    cfg.paths.data_dir = str(Path(cfg.paths.data_dir).expanduser().absolute())
    if cfg.dataset.get("run"):
        cfg.dataset.run = str(Path(cfg.dataset.run).expanduser().absolute())
    for node in (cfg.dataset.get("source"), cfg.get("tokenizer")):
        if node and "path" in node and not OmegaConf.is_missing(node, "path"):
            node.path = str(Path(node.path).expanduser().absolute())


def _overrides(without: str | None = None) -> list[str]:
    """Of this job, as they were given."""
    given = list(HydraConfig.get().overrides.task)
    return [o for o in given if o.partition("=")[0] not in (without, "sweep.resume", "resume")]


def _command() -> str:
    import shlex

    return shlex.join(["genlab", "train", *HydraConfig.get().overrides.task])


# -- a run that goes on ------------------------------------------------------------------------------------------------


def _resume(folder: "RunFolder", changes: list[str]) -> float | None:
    """Go on with a run, whose config is composed again from its overrides and must come out the same.

    Args:
        changes: overrides on top of the run's.

    Raises:
        InputError: where the run is done, is running, or its config comes out another.
    """
    from genlab.composition.building import plain
    from genlab.files import write_atomically
    from genlab.runs.folder import CONFIG, STATUS
    from genlab.runs.resuming import check_not_running, check_unchanged

    check_not_running(folder)
    status = folder.read_json(STATUS)
    if "overrides" not in status:
        raise InputError(f"{folder.path} cannot be resumed: {STATUS} does not say what it was started with")
    saved: Any = OmegaConf.to_container(OmegaConf.load(folder.path / CONFIG))
    around = HydraConfig.instance().cfg  # of the sweep that this run may be a job of
    cfg = composed("train", [*status["overrides"], *changes])
    HydraConfig.instance().cfg = around
    changed = {change.partition("=")[0].lstrip("+") for change in changes}
    for key in (
        "paths.data_dir",
        "paths.output_dir",
        "dataset.source.path",
        "dataset.source.root",
        "dataset.run",
        "trainer.precision",
    ):
        # Given relative to where the run was started from, or chosen by the device that it was started on.
        if key not in changed and (value := OmegaConf.select(OmegaConf.create(saved), key)) is not None:
            OmegaConf.update(cfg, key, value)
    cfg.run_dir = str(folder.path)
    for key in ("run_id", "run_name", "group"):
        cfg[key] = saved[key]
    _absolute_paths(cfg)
    config = plain(cfg, **TYPES)
    longer = check_unchanged(folder, saved, config)
    if status["status"] == "done" and not longer:
        raise InputError(f"{folder.path} is done: a larger trainer.max_epochs or budget.images would train it on")
    write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
    resumed = [*status.get("resumed", []), {"changes": changes, "after": status["status"]}]
    folder.set_status("running", resumed=resumed, **({"trained": False} if longer else {}))
    return _start(folder, config, None)


def _go_on_with_job(cfg: DictConfig, folder: "RunFolder") -> float | None:
    """A job of a sweep whose folder is there: done, or cut off, and then it goes on."""
    from genlab.runs.folder import STATUS, SUMMARY

    status = folder.read_json(STATUS)
    if with_new_names(status.get("overrides", [])) != with_new_names(_overrides()):
        raise InputError(
            f"{folder.path} is another job than this one: it was started with {' '.join(status.get('overrides', []))}"
        )
    if status.get("begun") is False:  # its config was wrong, and nothing was made yet
        shutil.rmtree(folder.path)
        return _begin(cfg, folder.path)
    if status["status"] == "done":
        best = folder.read_json(SUMMARY)["monitor"]["best"]
        return None if best is None else float(best)
    return _resume(folder, [])


# -- its processes -----------------------------------------------------------------------------------------------------


def _start(folder: "RunFolder", config: dict[str, Any], parts: Any) -> float | None:
    """In this process, or in one process a device under torchrun."""
    from genlab.worker import work

    num = _num_processes(config["trainer"])
    if num == 1:
        return work(folder, config, parts)
    return _torchrun(folder, num)


def _num_processes(trainer: dict[str, Any]) -> int:
    import torch

    if trainer.get("num_nodes", 1) != 1:
        raise InputError(f"trainer.num_nodes={trainer['num_nodes']}: a run takes the devices of one machine")
    devices = trainer.get("devices", 1)
    if isinstance(devices, list):
        return len(devices)
    if devices in ("auto", -1, "-1"):
        on_gpu = trainer.get("accelerator") in ("auto", "gpu", "cuda") and torch.cuda.is_available()
        return torch.cuda.device_count() if on_gpu else 1
    return int(devices)


def _torchrun(folder: "RunFolder", num: int) -> float | None:
    """Let torchrun start, watch and, where one of them dies, end the processes of a run.

    Not Lightning's own start, which would launch the command line once more for each device: within a sweep, all of it.

    Raises:
        RuntimeError: where a process died; the run's status says why.
    """
    from genlab.callbacks.last_checkpoint import SIGNALS
    from genlab.runs.folder import STATUS, SUMMARY
    from genlab.runs.resuming import newest_checkpoint

    newest_checkpoint(folder)  # says so once, and puts it aside, if one is damaged
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={num}"]
    environment = {"OMP_NUM_THREADS": str(max(1, (os.cpu_count() or 1) // num)), **os.environ}
    process = subprocess.Popen([*command, "-m", "genlab.worker", str(folder.path)], env=environment)

    def pass_on(number: int, _: Any) -> None:
        # To the first process alone, which tells the others; torchrun would not leave them the time.
        pid = folder.read_json(STATUS).get("pid")
        os.kill(pid if pid not in (None, os.getpid()) else process.pid, signal.SIGTERM)

    before = {}
    for number in SIGNALS:
        before[number] = signal.signal(number, pass_on)
    try:
        code = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    status = folder.read_json(STATUS)
    if status["status"] == "interrupted":
        raise Interrupted(signal.SIGTERM, before[signal.SIGTERM])
    if code != 0 or status["status"] != "done":
        reason = status.get("reason", f"torchrun ended with code {code}")
        if status["status"] == "running":
            folder.set_status("failed", reason=f"a process died: {reason}")
        raise RuntimeError(f"{folder.path}: {reason}")
    best = folder.read_json(SUMMARY)["monitor"]["best"]
    return None if best is None else float(best)


if __name__ == "__main__":
    main()
