"""The work of one process of a run: build, train, measure.

If a run uses several devices, torchrun starts ``python -m genlab.launching.job RUN_FOLDER`` once for each of them.
"""

import os
import sys
from collections.abc import Mapping
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from lightning_fabric.plugins.environments import LightningEnvironment, TorchElasticEnvironment
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch.distributed.elastic.multiprocessing.errors import record

from genlab.callbacks.best_checkpoint import BestCheckpoint
from genlab.callbacks.stopwatch import Stopwatch
from genlab.composition.building import build
from genlab.composition.explaining import first_line
from genlab.composition.failures import failure
from genlab.composition.named_parts import named
from genlab.composition.trust import own_values, remember
from genlab.errors import Diverged, InputError, Interrupted, OutputLost
from genlab.launching.initial import built, shown
from genlab.launching.objects import NONE, Objects
from genlab.launching.progress import progress_kept, progress_of
from genlab.launching.rollback import roll_back, rolled_back
from genlab.launching.summary import report, summarize
from genlab.loggers.contents import record_end
from genlab.loggers.metrics_csv import MetricsCSV
from genlab.loggers.tracker import Tracker
from genlab.machine.console import console
from genlab.machine.devices import check_for_gpus_quickly
from genlab.machine.environment import code
from genlab.machine.process import alone, end_with_parent, keep_freed_memory, place_in, quiet_libraries
from genlab.metrics.result import Result
from genlab.runs.checkpoints import NEWEST, SealedCheckpoints
from genlab.runs.config import read_config
from genlab.runs.folder import METRICS, STATUS, SUMMARY, RunFolder
from genlab.runs.resuming import newest_checkpoint
from genlab.runs.rows import rows_to_keep, seconds_logged
from genlab.runs.verdicts import Finished, Standing, standings
from genlab.training.compilation import Compilation
from genlab.training.hooks import leave_out_empty_hooks
from genlab.training.parallel import strategy_for
from genlab.training.parts import Parts
from genlab.training.tf32 import TF32
from genlab.training.trainer_settings import trainer_options

Found = tuple[Path, dict[str, Any]]  # a checkpoint's file, and what it holds


def work(
    folder: RunFolder, config: dict[str, Any], parts: Parts | None = None, objects: Objects = NONE
) -> float | None:
    """Train from the newest checkpoint in the folder, or from the start, then measure and write the summary.

    Every process of the run calls this; only the first one writes to the folder.

    Args:
        folder: claimed folder of the run.
        config: config of the run, as plain values.
        parts: parts built from the config; None builds them here.
        objects: callbacks and loggers beside those of the config.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        Interrupted: if a signal asked the run to stop, after its state was saved.
    """
    rank, world_size = place_in(folder.path)
    with alone() if world_size == 1 else nullcontext():
        return _work(folder, config, parts, rank == 0, world_size, objects)


def _work(
    folder: RunFolder, config: dict[str, Any], parts: Parts | None, first: bool, world_size: int, objects: Objects
) -> float | None:
    watch = Stopwatch()
    loggers: list[Any] = []
    try:
        found = newest_checkpoint(folder)
        parts = parts or built(config, found)
        if first:
            loggers = [*_open(folder, config, parts, found), *objects.loggers]
            watch.before = seconds_logged(folder) if found else 0.0
        callbacks = built_callbacks(config) | {"stopwatch": watch} | objects.named()
        trainer = built_trainer(config, parts, callbacks, loggers, world_size)
        for logger in loggers:
            logger.log_hyperparams(config)
        if first:
            _announce(parts, trainer, folder, config, found)
        device = trainer.strategy.root_device  # read here because Lightning moves the module off it after training
        status = folder.read_json(STATUS)
        if status.get("trained") and found is not None and found[0].name == NEWEST:
            _restore(parts, callbacks, found)
            progress = status.get("training") or progress_kept(folder, found, callbacks)
        else:
            parts.training.going_back_to = rolled_back(folder, found[1] if found else None)
            while (error := _fit(trainer, parts, config, found)) is not None:
                found = newest_checkpoint(folder, put_aside=first)
                count = roll_back(folder, parts.training, error, found[1] if found else None, first)
                if first:
                    _forget_rows(folder, found)
                # All is built anew, as by a resume.
                parts = built(config, found)
                parts.training.going_back_to = count
                callbacks = built_callbacks(config) | {"stopwatch": watch} | objects.named()
                trainer = built_trainer(config, parts, callbacks, loggers, world_size)
            progress = progress_of(trainer.current_epoch, callbacks)
        best = next((c.best for c in callbacks.values() if isinstance(c, BestCheckpoint)), None)
        if not first:
            return best
        folder.set_status("running", trained=True, training=progress)
        summary = summarize(folder, config, parts, trainer, device, progress, best)
        folder.write_json(SUMMARY, summary)
        finished = Finished.of(config, summary, folder.read_json(STATUS), folder)
        beside = standings(finished.published, [finished]) if finished else {}
        _log_figures(loggers, folder, parts, summary, beside)
        folder.set_status("done")
        with suppress(OutputLost):  # the run is done, and the next one of a sweep is to begin
            report(summary, parts.evaluation.declared, folder, beside)
        return best
    except BaseException as error:
        if first:
            try:
                _set_failed(folder, error, watch.seconds)
            except OSError as second:  # of the disk that ended the run, or of a folder that is gone
                print(f"genlab: {failure(second)}: {STATUS} does not say why the run ended", file=sys.stderr)
        if isinstance(error, SystemExit):  # Lightning turns Ctrl-C into this
            raise KeyboardInterrupt from error
        raise
    finally:
        _close(loggers)
        if dist.is_initialized():
            dist.destroy_process_group()  # otherwise the next run of this process would find it


def _open(folder: RunFolder, config: dict[str, Any], parts: Parts, found: Found | None) -> list[Any]:
    """Prepare the folder for this process to write in, and build the loggers."""
    # Records this process's id, in case another process claimed the folder, and the commits that the run trained under.
    commits = [*folder.read_json(STATUS).get("commits", []), code()["commit"]]
    folder.set_status("running", commits=list(dict.fromkeys(filter(None, commits))))
    folder.clear_halves()
    parts.data.keep(folder.path)
    _forget_rows(folder, found)
    if config["trainer"].get("fast_dev_run"):  # Lightning logs nothing either
        return []
    return [build(node, f"logger.{name}") for name, node in named(config["logger"])]


def _forget_rows(folder: RunFolder, found: Found | None) -> None:
    """Take away the rows that were logged after a checkpoint, and that will be logged again."""
    rows = found[1]["progress"]["rows_logged"] if found else 0
    MetricsCSV(str(folder.path / METRICS)).cut(rows_to_keep(folder.read_json(STATUS), rows))


def built_callbacks(config: dict[str, Any]) -> dict[str, Any]:
    """Build the callbacks of a config, by name; nothing is written.

    Args:
        config: config of the run, as plain values.
    """
    return {name: build(node, f"callbacks.{name}") for name, node in named(config["callbacks"])}


def built_trainer(
    config: dict[str, Any], parts: Parts, callbacks: dict[str, Any], loggers: list[Any], world_size: int = 1
) -> pl.Trainer:
    """Build Lightning's trainer of a run; nothing is written.

    Args:
        config: config of the run, as plain values.
        parts: parts built from the config.
        callbacks: callbacks of the training, by name.
        loggers: loggers of this process.
        world_size: number of processes of the run.
    """
    # Given, so that Lightning does not look for SLURM, LSF or MPI, which may have started several runs side by side.
    environment = LightningEnvironment() if world_size == 1 else TorchElasticEnvironment()
    strategy = strategy_for(parts.training, config["trainer"].get("strategy", "auto"), world_size)
    tf32 = [TF32()] if config["trainer"].get("tf32", False) else []
    trainer = build(
        {
            **trainer_options(config),
            "logger": loggers,
            "callbacks": [
                *tf32,
                *getattr(strategy, "callbacks", ()),
                *callbacks.values(),
                Compilation(config["trainer"].get("compile", False)),
            ],
            "plugins": [SealedCheckpoints(), environment],
            "strategy": strategy,
        },
        "trainer",
    )
    assert isinstance(trainer, pl.Trainer)
    return trainer


def check_trainer(config: dict[str, Any], parts: Parts) -> None:
    """Build the callbacks and the trainer of a run of one process, and throw them away.

    Args:
        config: config of the run, as plain values.
        parts: parts built from the config.

    Raises:
        InputError: if Lightning refuses an option.
    """
    try:
        with alone():
            built_trainer(config, parts, built_callbacks(config), [])
    except MisconfigurationException as error:
        raise InputError(f"trainer: {first_line(error)}") from error


def check_weights(path: Path, checkpoint: dict[str, Any], parts: Parts) -> None:
    """Check that the weights of a checkpoint are those of the model, and are finite; they stay in the model.

    Args:
        path: path of the checkpoint, for the error message.
        checkpoint: its content.
        parts: parts built from the config of the run.

    Raises:
        InputError: if they are not.
    """
    try:
        parts.training.load_state_dict(checkpoint["state_dict"])
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path} does not fit the model of the run's config ({reason[:300]})") from error
    if not parts.training.is_finite():
        raise InputError(f"{path} has weights that are NaN or infinite: there is nothing to go on from")


def _fit(trainer: pl.Trainer, parts: Parts, config: dict[str, Any], found: Found | None) -> Diverged | None:
    """Train to the end, or until the training diverges; what diverged is returned, without the frames that hold it."""
    torch.manual_seed(config["seed"])
    check_for_gpus_quickly()
    leave_out_empty_hooks(trainer, parts.training)
    try:
        trainer.fit(parts.training, datamodule=parts.data, ckpt_path=str(found[0]) if found else None)
    except Diverged as error:
        if parts.training.on_nan != "rollback":
            raise
        return error.with_traceback(None)
    return None


def _restore(parts: Parts, callbacks: dict[str, Any], found: Found) -> None:
    """Load the state of a run that was trained to its end, but not measured."""
    checkpoint = found[1]
    parts.training.on_load_checkpoint(checkpoint)
    parts.training.load_state_dict(checkpoint["state_dict"])
    for callback in callbacks.values():
        if (state := checkpoint["callbacks"].get(callback.state_key)) is not None:
            callback.load_state_dict(state)
        if isinstance(callback, BestCheckpoint):
            callback.settle(found[0])


def _announce(parts: Parts, trainer: Any, folder: RunFolder, config: dict[str, Any], found: Found | None) -> None:
    from rich.table import Table

    parameters = sum(p.numel() for p in parts.model.parameters())
    sizes = ", ".join(f"{len(examples):,} {split}" for split, examples in parts.data.splits.items())
    table = Table.grid(padding=(0, 2))
    table.add_row("model", f"{config['choices']['model']}, {parameters:,} parameters")
    table.add_row("dataset", f"{parts.data.name} {list(parts.data.shape)}, {sizes}")
    how = {False: "not compiled", True: "compiled"}.get(config["trainer"].get("compile", False))
    how = how or f"compile={config['trainer']['compile']}"
    precision = f"{trainer.precision}{' with TF32' * config['trainer'].get('tf32', False)}"
    table.add_row("device", f"{trainer.strategy.root_device} x {trainer.world_size}, precision {precision}, {how}")
    table.add_row("run folder", str(folder.path))
    if parts.match is not None:
        for row in shown(parts.match):
            table.add_row(*row)
    if found is not None:
        path, checkpoint = found
        table.add_row("resumed", f"from {path.name}, {checkpoint['progress']['images_seen']:,} images")
    console(stderr=True).print(table)


def _log_figures(
    loggers: list[Any], folder: RunFolder, parts: Parts, summary: dict[str, Any], beside: Mapping[str, Standing]
) -> None:
    figures = {name: Result.from_json(result) for name, result in summary["metrics"].items()}
    images_seen = parts.training.images_seen
    for logger in loggers:
        values = {name: result.value for name, result in figures.items()}
        logger.log_metrics({**values, "images_seen": images_seen}, step=images_seen)
    tiled = parts.data.pictured.modality.is_tiled
    record_end(loggers, figures, beside, images_seen, folder.samples / "final.npy" if tiled else None)


def _set_failed(folder: RunFolder, error: BaseException, seconds: float) -> None:
    word, reason = _ending(error)
    details: dict[str, Any] = {"seconds": round(seconds, 1), "reason": reason}
    if word == "failed":
        last = folder.checkpoints / "last.ckpt"
        details["last_checkpoint"] = str(last) if last.is_file() else None
    folder.set_status(word, **details)


def _ending(error: BaseException) -> tuple[str, str]:
    """Give the word for how an error ends a run, and its reason in one line."""
    if isinstance(error, Interrupted | KeyboardInterrupt | SystemExit):
        return "interrupted", str(error) if isinstance(error, Interrupted) else "Ctrl-C"
    if isinstance(error, OutputLost):
        return "interrupted", "nobody read its output any more"
    return "failed", failure(error) or f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def _close(loggers: list[Any]) -> None:
    error = sys.exc_info()[1]
    word, reason = _ending(error) if error is not None else ("done", "")
    for logger in loggers:
        if isinstance(logger, Tracker):
            logger.close(word, reason)


def main() -> None:
    """Work as one process of torchrun; the run folder's status says what went wrong, if something did."""
    end_with_parent()
    folder = RunFolder(sys.argv[1])
    quiet_libraries()
    keep_freed_memory()
    try:
        config = read_config(folder)
        own_values(config)  # the process that started this one has checked it
        remember(config)
        work(folder, config)
    except Interrupted:
        return


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    record(main)()  # tells torchrun the error that ends this process
