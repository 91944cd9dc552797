"""One process of a run: build, train, measure.

Where a run takes several devices, torchrun starts this module once for each: ``python -m genlab.worker RUN_FOLDER``.
"""

import os
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
import yaml

from genlab.callbacks.best_checkpoint import BestCheckpoint
from genlab.callbacks.throughput import Throughput
from genlab.composition.building import build, checked, located
from genlab.data.module import DataModule
from genlab.data.text import TextDataModule
from genlab.devices import tune_processor
from genlab.errors import InputError, Interrupted
from genlab.metrics.display import print_figures
from genlab.metrics.evaluation import Evaluation
from genlab.metrics.figure import Figure
from genlab.metrics.measure import density_in_plane, own_randomness
from genlab.metrics.result import Result
from genlab.models.base import DiscreteLatents, GenerativeModel, ObjectiveModel
from genlab.runs.checkpoints import SealedCheckpoints
from genlab.runs.console import console
from genlab.runs.environment import environment, peak_memory_mb
from genlab.runs.folder import CONFIG, METRICS, STATUS, SUMMARY, TOKENIZER, RunFolder
from genlab.runs.loading import load
from genlab.runs.metrics_csv import MetricsCSV
from genlab.runs.neighbours import beside_neighbours
from genlab.runs.pictures import picture, save_array, save_png
from genlab.runs.process import keep_freed_memory, quiet_libraries, rank
from genlab.runs.resuming import newest_checkpoint
from genlab.runs.texts import save_texts
from genlab.runs.wandb import ByImagesSeen, close_run, record_protocols
from genlab.training.compilation import Compilation
from genlab.training.module import TrainingModule
from genlab.training.parallel import strategy_for


@dataclass
class Parts:
    """What a run is made of, built."""

    data: DataModule
    model: GenerativeModel
    training: TrainingModule
    evaluation: Evaluation


def assemble(config: dict[str, Any]) -> Parts:
    """Build everything that can be wrong; nothing is written.

    Raises:
        InputError: naming the key that is wrong.
    """
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    tune_processor()  # before the model sees data for the first time, as in training
    # Before a model of images is told a shape that it cannot understand.
    kinds = getattr(located(config["model"].get("_target_", ""), "model"), "kinds", None)
    if kinds is not None and config["dataset"]["kind"] not in kinds:
        raise InputError(
            f"model={config['choices']['model']} models {' and '.join(sorted(kinds))} data, and "
            f"dataset={config['choices']['dataset']} is {config['dataset']['kind']}"
        )
    model = build(config["model"], "model")
    if not isinstance(model, GenerativeModel):
        raise InputError(f"model: {type(model).__name__} is not a genlab model (a GenerativeModel)")
    data = build(config["dataset"], "dataset")
    if model.num_classes is not None and model.num_classes != data.num_classes:
        raise InputError(
            f"model.num_classes={model.num_classes}, and dataset={config['choices']['dataset']} has "
            f"{data.num_classes or 'no'} classes"
        )
    data.setup()
    if isinstance(model, ObjectiveModel):
        x, y = data.some("train", 1024)
        with own_randomness(config["seed"], x.device), torch.no_grad():
            model.initialize(x, y if model.num_classes is not None else None)
    checked(_trainer_options(config), "trainer")
    for key in ("callbacks", "logger"):
        checked(config[key], key)
    training = build({**config["training"], "model": model}, "training")
    training.check(data)
    return Parts(data, model, training, build(config["metrics"], "metrics"))


def work(folder: RunFolder, config: dict[str, Any], parts: Parts | None = None) -> float | None:
    """Train from the newest checkpoint that the folder has, or from the start, then measure and write the summary.

    Gives the best value of the monitored figure. On every process but the first, nothing is written.

    Raises:
        Interrupted: after saving, where a signal asked for it.
    """
    started = time.time()
    first = rank() == 0
    loggers: list[Any] = []
    try:
        found = newest_checkpoint(folder)
        parts = parts or assemble(config)
        training, data = parts.training, parts.data
        if first:
            folder.set_status("running")  # by this process, should another have started it
            folder.clear_halves()
            if isinstance(data, TextDataModule):
                data.tokenizer.save(folder.path / TOKENIZER)
            _continue_log(folder, found)
            loggers = [build(node, f"logger.{name}") for name, node in named(config["logger"])]
        callbacks = {name: build(node, f"callbacks.{name}") for name, node in named(config["callbacks"])}
        strategy = strategy_for(
            training, config["trainer"].get("strategy", "auto"), int(os.environ.get("WORLD_SIZE", 1))
        )
        trainer = build(
            {
                **_trainer_options(config),
                "logger": loggers,
                "callbacks": [*callbacks.values(), Compilation(config["trainer"].get("compile", False))],
                "plugins": [SealedCheckpoints()],
                "strategy": strategy,
            },
            "trainer",
        )
        for logger in loggers:
            logger.log_hyperparams(config)
        if first:
            _announce(parts, trainer, folder, config, found)
        device = trainer.strategy.root_device  # Lightning takes the module off it when it is done
        status = folder.read_json(STATUS)
        if status.get("trained") and found is not None:
            training.on_load_checkpoint(found[1])
            training.load_state_dict(found[1]["state_dict"])
            _load_callbacks(callbacks, found[1])
        else:
            torch.manual_seed(config["seed"])
            if not torch.cuda.is_available():
                # Optimizers ask for a GPU at every step, and as Lightning has it asked, the answer takes 0.3 ms.
                os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "0"
            trainer.fit(training, datamodule=data, ckpt_path=str(found[0]) if found else None)
        best = next((c.best for c in callbacks.values() if isinstance(c, BestCheckpoint)), None)
        if not first:
            return best
        folder.set_status("running", trained=True)
        seconds = status.get("seconds", 0.0) + time.time() - started
        figures = _final_figures(parts, folder, device)
        summary = {
            "metrics": {name: result.to_json() for name, result in figures.items()},
            **_declared(parts.evaluation.declared),
            **_codes(parts),
            **_facts(training, trainer, callbacks, device, seconds),
            "monitor": {**config["monitor"], "best": best},
            "choices": config["choices"],
            "seed": config["seed"],
        }
        folder.write_json(SUMMARY, summary)
        for logger in loggers:
            values = {name: result.value for name, result in figures.items()}
            logger.log_metrics({**values, "images_seen": training.images_seen}, step=training.images_seen)
        record_protocols(loggers, figures)
        for logger in loggers:
            if isinstance(logger, ByImagesSeen):
                logger.finish(folder.path)
        folder.set_status("done")
        _report(figures, parts.evaluation.declared, summary, folder, config.get("reference"))
        return best
    except BaseException as error:
        if first:
            _set_failed(folder, error, time.time() - started)
        if isinstance(error, SystemExit):  # Lightning's answer to Ctrl-C
            raise KeyboardInterrupt from error
        raise
    finally:
        _close(loggers)
        if dist.is_initialized():
            dist.destroy_process_group()  # or the next run of this process would find it


def _set_failed(folder: RunFolder, error: BaseException, seconds: float) -> None:
    seconds = round(folder.read_json(STATUS).get("seconds", 0.0) + seconds, 1)
    if isinstance(error, Interrupted | KeyboardInterrupt | SystemExit):
        reason = str(error) if isinstance(error, Interrupted) else "Ctrl-C"
        folder.set_status("interrupted", reason=reason, seconds=seconds)
        return
    reason = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
    last = folder.checkpoints / "last.ckpt"
    folder.set_status("failed", reason=reason, seconds=seconds, last_checkpoint=str(last) if last.is_file() else None)


# -- before ------------------------------------------------------------------------------------------------------------


def _trainer_options(config: dict[str, Any]) -> dict[str, Any]:
    """Those that are Lightning's."""
    return {key: value for key, value in config["trainer"].items() if key != "compile"}


def _continue_log(folder: RunFolder, found: tuple[Path, dict[str, Any]] | None) -> None:
    """Take away what was logged after the checkpoint; it comes again."""
    MetricsCSV(str(folder.path / METRICS)).cut(found[1]["progress"]["rows_logged"] if found else 0)


def named(group: dict[str, Any] | None) -> list[tuple[str, Any]]:
    """The nodes of a group of callbacks or loggers that are to be built.

    One that is null is not, nor is one without a target: what an experiment sets of a callback that was left out.
    """
    return [(name, node) for name, node in (group or {}).items() if node and "_target_" in node]


def _load_callbacks(callbacks: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    for callback in callbacks.values():
        if (state := checkpoint["callbacks"].get(callback.state_key)) is not None:
            callback.load_state_dict(state)


def _announce(parts: Parts, trainer: Any, folder: RunFolder, config: dict[str, Any], found: Any) -> None:
    from rich.table import Table

    parameters = sum(p.numel() for p in parts.model.parameters())
    sizes = ", ".join(f"{len(examples):,} {split}" for split, examples in parts.data.splits.items())
    table = Table.grid(padding=(0, 2))
    table.add_row("model", f"{config['choices']['model']}, {parameters:,} parameters")
    table.add_row("dataset", f"{parts.data.name} {list(parts.data.shape)}, {sizes}")
    table.add_row("device", f"{trainer.strategy.root_device} x {trainer.world_size}, precision {trainer.precision}")
    table.add_row("run folder", str(folder.path))
    if found is not None:
        path, checkpoint = found
        table.add_row("resumed", f"from {path.name}, {checkpoint['progress']['images_seen']:,} images")
    console(stderr=True).print(table)


# -- after -------------------------------------------------------------------------------------------------------------


def _final_figures(parts: Parts, folder: RunFolder, device: torch.device) -> dict[str, Result]:
    """Measure the best checkpoint (the weights at hand where none was written) and keep samples of it."""
    training, data, evaluation = parts.training, parts.data, parts.evaluation
    best = folder.checkpoints / "best.ckpt"
    if best.is_file():
        run = load(folder.path, device=device)
        model, which = run.model, {"checkpoint": "best", "weights": run.used_weights}
    else:
        model = training.sampling_model.to(device)
        which = {"checkpoint": "none", "weights": "ema" if training.ema else "raw"}
    samples = evaluation.draw(model, data)
    shown = evaluation.num_shown
    if isinstance(data, TextDataModule):
        save_texts(data.text(samples[:shown]), folder.samples / "final.txt")
        return evaluation.measure(model, data, samples, which).figures
    if len(model.shape) == 1:
        shown *= 16  # a point is a small picture
    real = data.pictured.first("test", shown)
    save_png(picture(samples[:shown], real, density=density_in_plane(model)), folder.samples / "final.png")
    save_array(samples[:shown], folder.samples / "final.npy")
    save_array(real, folder.samples / "real.npy")
    measured = evaluation.measure(model, data, samples, which)
    if measured.neighbours is not None:
        save_png(beside_neighbours(samples, data, measured.neighbours), folder.samples / "neighbours.png")
    return measured.figures


def _declared(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """What ``genlab compare`` must know of figures that are not genlab's own, and is not to import."""
    return {"figures": {name: figure.to_json() for name, figure in figures.items()}} if figures else {}


def _codes(parts: Parts) -> dict[str, Any]:
    """What ``dataset=latent_codes`` must know before it loads the model."""
    if not isinstance(model := parts.model, DiscreteLatents):
        return {}
    facts = {"shape": list(model.code_shape), "levels": model.num_codes, "num_classes": parts.data.num_classes}
    return {"codes": facts}


def _facts(
    training: TrainingModule, trainer: Any, callbacks: dict[str, Any], device: torch.device, seconds: float
) -> dict[str, Any]:
    rates = [c.images_per_second for c in callbacks.values() if isinstance(c, Throughput)]
    return {
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "images_seen": training.images_seen,
        "epochs": trainer.current_epoch,
        "images_per_second": rates[0] if rates else None,
        "wall_seconds": round(seconds, 1),
        "peak_memory_mb": peak_memory_mb(device),
        "environment": environment(str(device), trainer.world_size, str(trainer.precision)),
    }


def _report(
    figures: dict[str, Result],
    declared: Mapping[str, Figure],
    summary: dict[str, Any],
    folder: RunFolder,
    published: dict[str, Any] | None,
) -> None:
    rate = summary["images_per_second"]
    beside = {}
    if published:
        values = ", ".join(f"{name} {value:g}" for name, value in published["figures"].items())
        beside = {"published": f"{values}: {published['paper']} ({published['protocol']})"}
    print_figures(
        figures,
        {
            **beside,
            "images seen": f"{summary['images_seen']:,}",
            "images/s": f"{rate:,.0f}" if rate else "-",
            "wall time": f"{summary['wall_seconds']:.0f} s",
            "samples": str(text if (text := folder.samples / "final.txt").is_file() else folder.samples / "final.png"),
            "checkpoints": str(folder.checkpoints),
            **({"W&B": str(folder.path / "wandb")} if (folder.path / "wandb").is_dir() else {}),
        },
        declared,
    )


def _close(loggers: list[Any]) -> None:
    if any(isinstance(logger, ByImagesSeen) for logger in loggers):
        # Or the next run of this process would go on in this W&B run.
        close_run(exit_code=1 if sys.exc_info()[0] else 0)


def main() -> None:
    """As torchrun starts it; what went wrong is in the run folder's status."""
    folder = RunFolder(sys.argv[1])
    config = yaml.safe_load((folder.path / CONFIG).read_text())
    quiet_libraries()
    keep_freed_memory()
    try:
        work(folder, config)
    except Interrupted:
        return


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    main()
