"""``genlab train``: compose a model, a dataset and a trainer, train, and measure what came out."""

import sys
import time
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from genlab.composition import conf_dir, one_line_errors

if TYPE_CHECKING:
    from genlab.data.images import ImageDataModule
    from genlab.models.base import GenerativeModel
    from genlab.runs.evaluation import Evaluation
    from genlab.runs.folder import RunFolder
    from genlab.runs.loading import Run


# Of the values that no constructor takes.
TYPES = {
    "seed": int,
    "tags": list[str],
    "name": str,
    "budget__images": int | None,
}


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
@one_line_errors
def main(cfg: DictConfig) -> float | None:
    return train(cfg)


def train(cfg: DictConfig) -> float | None:
    """Train, measure and write the run folder; gives the best value of the monitored metric to a sweeper.

    Raises:
        InputError: for anything wrong in the config, before a folder is made or a step is taken.
    """
    from pathlib import Path

    import pytorch_lightning as pl
    import torch

    from genlab.composition import build, checked, plain
    from genlab.files import write_atomically
    from genlab.runs.folder import CONFIG, RunFolder
    from genlab.runs.process import keep_freed_memory, quiet_libraries
    from genlab.runs.wandb import record_protocols

    started = time.time()
    cfg.run_dir = str(_planned_folder(cfg))
    _absolute_paths(cfg)
    config = plain(cfg, **TYPES)
    quiet_libraries()
    keep_freed_memory()
    pl.seed_everything(config["seed"], workers=True, verbose=False)

    # Everything that can be wrong is built or checked before the folder exists.
    data, model = _model_for_data(config)
    for key in ("trainer", "callbacks", "logger"):
        checked(config[key], key)
    training = build({**config["training"], "model": model}, "training")
    evaluation = build(config["metrics"], "metrics")

    folder = RunFolder.claim(Path(config["run_dir"]))
    cfg.run_dir = str(folder.path)
    config = plain(cfg, **TYPES)
    write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
    folder.set_status("running", command=_command())
    loggers = []
    try:
        loggers = [build(node, f"logger.{name}") for name, node in (config["logger"] or {}).items() if node]
        callbacks = {name: build(node, f"callbacks.{name}") for name, node in config["callbacks"].items() if node}
        trainer = build({**config["trainer"], "logger": loggers, "callbacks": [*callbacks.values()]}, "trainer")
        for logger in loggers:
            logger.log_hyperparams(config)
        _announce(model, data, trainer, folder, config)
        device = trainer.strategy.root_device  # Lightning takes the module off it when it is done
        torch.manual_seed(config["seed"])
        trainer.fit(training, datamodule=data)
        seconds = time.time() - started
        best = _best(callbacks.values())
        figures = _final_figures(training, data, evaluation, folder, device)
        summary = {
            "metrics": figures,
            **_facts(training, trainer, callbacks, device, seconds),
            "monitor": {**config["monitor"], "best": best},
            "choices": config["choices"],
            "seed": config["seed"],
        }
        folder.write_json("summary.json", summary)
        for logger in loggers:
            values = {name: result["value"] for name, result in figures.items()}
            logger.log_metrics({**values, "images_seen": training.images_seen}, step=training.images_seen)
        record_protocols(loggers, figures)
        folder.set_status("done")
        _report(figures, summary, folder)
        return best
    except BaseException as error:
        # Lightning answers Ctrl-C with sys.exit(1).
        interrupted = isinstance(error, KeyboardInterrupt | SystemExit)
        reason = "interrupted" if interrupted else f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        folder.set_status("failed", reason=reason)
        if interrupted:
            raise KeyboardInterrupt from error
        raise
    finally:
        _close(loggers)


def launch(*overrides: str) -> "Run":
    """``genlab train`` from Python: the same overrides, as strings; gives the finished run.

    Raises:
        InputError: for a wrong override or value.
    """
    from hydra import compose, initialize_config_dir
    from omegaconf import open_dict

    from genlab.composition import as_groups, explain
    from genlab.errors import InputError
    from genlab.runs.loading import load

    try:
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            cfg = compose("train", as_groups(overrides), return_hydra_config=True)
            HydraConfig.instance().set_config(cfg)
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        raise InputError(line) from error
    with open_dict(cfg):
        del cfg["hydra"]
    train(cfg)
    return load(cfg.run_dir)


# -- before ------------------------------------------------------------------------------------------------------------


def _planned_folder(cfg: DictConfig) -> Any:
    """``outputs/<experiment or model-dataset>/<unique>``, or a number inside the sweep's folder."""
    from pathlib import Path

    from genlab.composition import unique_name

    hydra_config = HydraConfig.get()
    if hydra_config.mode == RunMode.MULTIRUN:
        return Path(hydra_config.sweep.dir, str(hydra_config.job.num))
    return Path(cfg.paths.output_dir, cfg.name, unique_name())


def _absolute_paths(cfg: DictConfig) -> None:
    """The saved config must find the data from any folder."""
    from pathlib import Path

    cfg.paths.data_dir = str(Path(cfg.paths.data_dir).expanduser().absolute())
    source = cfg.dataset.get("source")
    if source and "path" in source and not OmegaConf.is_missing(source, "path"):
        source.path = str(Path(source.path).expanduser().absolute())


def _model_for_data(config: dict[str, Any]) -> "tuple[ImageDataModule, GenerativeModel]":
    from genlab.composition import build
    from genlab.errors import InputError
    from genlab.models.base import GenerativeModel

    model = build(config["model"], "model")
    if not isinstance(model, GenerativeModel):
        raise InputError(f"model: {type(model).__name__} is not a genlab model (a GenerativeModel)")
    if config["dataset"]["kind"] not in model.kinds:
        raise InputError(
            f"model={config['choices']['model']} models {' and '.join(sorted(model.kinds))} data, and "
            f"dataset={config['choices']['dataset']} is {config['dataset']['kind']}"
        )
    data = build(config["dataset"], "dataset")
    if model.num_classes is not None and model.num_classes != data.num_classes:
        raise InputError(
            f"model.num_classes={model.num_classes}, and dataset={config['choices']['dataset']} has "
            f"{data.num_classes or 'no'} classes"
        )
    data.setup()
    return data, model


def _command() -> str:
    import shlex

    return shlex.join(["genlab", "train", *HydraConfig.get().overrides.task])


def _announce(model: Any, data: Any, trainer: Any, folder: "RunFolder", config: dict[str, Any]) -> None:
    if not trainer.is_global_zero:
        return
    from rich.table import Table

    from genlab.runs.console import console

    parameters = sum(p.numel() for p in model.parameters())
    sizes = ", ".join(f"{len(examples):,} {split}" for split, examples in data.splits.items())
    table = Table.grid(padding=(0, 2))
    table.add_row("model", f"{config['choices']['model']}, {parameters:,} parameters")
    table.add_row("dataset", f"{data.name} {list(data.shape)}, {sizes}")
    table.add_row("device", f"{trainer.strategy.root_device} x {trainer.world_size}, precision {trainer.precision}")
    table.add_row("run folder", str(folder.path))
    console(stderr=True).print(table)


# -- after -------------------------------------------------------------------------------------------------------------


def _best(callbacks: Any) -> float | None:
    from genlab.callbacks.best_checkpoint import BestCheckpoint

    return next((c.best for c in callbacks if isinstance(c, BestCheckpoint)), None)


def _final_figures(training: Any, data: Any, evaluation: "Evaluation", folder: "RunFolder", device: Any) -> Any:
    """Measure the best checkpoint (the weights at hand where none was written) and keep samples of it."""
    from genlab.runs.loading import load
    from genlab.runs.pictures import grid, save_array, save_png

    best = folder.checkpoints / "best.ckpt"
    if best.is_file():
        run = load(folder.path, device=device)
        model, which = run.model, {"checkpoint": "best", "weights": run.used_weights}
    else:
        model = training.sampling_model.to(device)
        which = {"checkpoint": "none", "weights": "ema" if training.ema else "raw"}
    samples = evaluation.draw(model)
    shown = evaluation.num_shown
    save_png(grid(samples[:shown]), folder.samples / "final.png")
    save_array(samples[:shown], folder.samples / "final.npy")
    save_array(data.images("test", shown), folder.samples / "real.npy")
    figures, neighbours = evaluation.measure(model, data, samples, which)
    if neighbours is not None:
        save_png(neighbours, folder.samples / "neighbours.png")
    return figures


def _facts(training: Any, trainer: Any, callbacks: dict[str, Any], device: Any, seconds: float) -> dict[str, Any]:
    from genlab.callbacks.throughput import Throughput
    from genlab.runs.environment import environment, peak_memory_mb

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


def _report(figures: dict[str, Any], summary: dict[str, Any], folder: "RunFolder") -> None:
    from genlab.runs.evaluation import print_figures

    rate = summary["images_per_second"]
    print_figures(
        figures,
        {
            "images seen": f"{summary['images_seen']:,}",
            "images/s": f"{rate:,.0f}" if rate else "-",
            "wall time": f"{summary['wall_seconds']:.0f} s",
            "samples": str(folder.samples / "final.png"),
            "checkpoint": str(folder.checkpoints),
            **({"W&B": str(folder.path / "wandb")} if (folder.path / "wandb").is_dir() else {}),
        },
    )


def _close(loggers: list[Any]) -> None:
    from pytorch_lightning.loggers import WandbLogger

    if any(isinstance(logger, WandbLogger) for logger in loggers):
        import wandb

        # Or the next run of this process would go on in this W&B run.
        wandb.finish(exit_code=1 if sys.exc_info()[0] else 0)


if __name__ == "__main__":
    main()
