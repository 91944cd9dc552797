"""Summarize a trained run: figures of the best checkpoint, samples, facts about the training, a closing report."""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.callbacks import EarlyStopping

from genlab.machine.environment import environment, peak_memory_mb
from genlab.machine.rate import rate
from genlab.metrics.display import print_figures
from genlab.metrics.drawing import density_in_plane, evaluating
from genlab.metrics.figure import Figure
from genlab.metrics.result import Result
from genlab.models.abilities import DiscreteLatents, LatentModel
from genlab.pictures.files import save_array, save_png
from genlab.runs.folder import RunFolder
from genlab.runs.loading import load
from genlab.runs.speed import speed_facts, speed_of
from genlab.runs.verdicts import Standing
from genlab.training.module import TrainingModule
from genlab.training.parts import Parts
from genlab.views.nearest import beside_neighbours


def summarize(
    folder: RunFolder,
    config: dict[str, Any],
    parts: Parts,
    trainer: Any,
    device: torch.device,
    progress: Mapping[str, Any],
    best: float | None,
) -> dict[str, Any]:
    """Measure a trained run and collect the content of its ``summary.json``.

    Args:
        folder: folder of the run; samples of the best checkpoint are written to it.
        config: config of the run, as plain values.
        parts: trained parts of the run.
        trainer: Lightning's trainer.
        device: device that the run trained on.
        progress: epochs, rate and wall time of the training, over all its processes, by their names in the summary.
        best: best value of the monitored metric; None if there is none.
    """
    figures = _final_figures(parts, folder, device)
    return {
        "metrics": {name: result.to_json() for name, result in figures.items()},
        **_declared(parts.evaluation.declared),
        **_codes(parts),
        **_latents(parts),
        **speed_facts(parts.data.modality, parts.model.shape),
        **_facts(parts.training, trainer, device, progress, config["trainer"]),
        "ended": _ended(trainer),
        "monitor": {**config["monitor"], "best": best},
        "choices": config["choices"],
        "seed": config["seed"],
    }


def _final_figures(parts: Parts, folder: RunFolder, device: torch.device) -> dict[str, Result]:
    """Measure the best checkpoint, or the current weights if there is none, and save samples of it."""
    training, data, evaluation = parts.training, parts.data, parts.evaluation
    best = folder.checkpoints / "best.ckpt"
    if best.is_file():
        run = load(folder.path, device=device)
        model, which = run.model, {"checkpoint": "best", "weights": run.used_weights}
    else:
        model = training.sampling_model.to(device)
        which = {"checkpoint": "none", "weights": "ema" if training.ema else "raw"}
    samples = evaluation.draw(model, data)
    modality = data.pictured.modality
    num = modality.num_shown(evaluation.num_shown)
    shown, real = samples[:num], data.pictured.first("test", num)
    modality.render(shown, real, density=density_in_plane(model)).save(folder.samples / "final")
    for name, examples in (("final", shown), ("real", real)):
        if (kept := modality.to_storage(examples)) is not None:
            save_array(kept, folder.samples / f"{name}.npy")
    measured = evaluation.measure(model, data, samples, which)
    if measured.neighbours is not None and modality.is_tiled:
        save_png(beside_neighbours(samples, data, measured.neighbours), folder.samples / "neighbours.png")
    return measured.figures


def _declared(figures: Mapping[str, Figure]) -> dict[str, Any]:
    """Give the declarations of figures that are not genlab's own; ``genlab compare`` does not import their code."""
    return {"figures": {name: figure.to_json() for name, figure in figures.items()}} if figures else {}


def _codes(parts: Parts) -> dict[str, Any]:
    """Give the facts about a model's codes that ``dataset=latent_codes`` needs before it loads the model."""
    if not isinstance(model := parts.model, DiscreteLatents):
        return {}
    facts = {"shape": list(model.code_shape), "levels": model.num_codes, "num_classes": parts.data.num_classes}
    return {"codes": facts}


def _latents(parts: Parts) -> dict[str, Any]:
    """Give the facts about a model's latents that ``dataset=latents`` needs before it loads the model."""
    model = parts.model
    if not isinstance(model, LatentModel) or model.num_classes is not None:
        return {}
    x, _ = parts.data.some("test", 1)
    with evaluating(model):
        z = model.encode(x.to(parts.model.device))
    return {
        "latents": {"shape": list(getattr(model, "latent_shape", z.shape[1:])), "num_classes": parts.data.num_classes}
    }


def _facts(
    training: TrainingModule,
    trainer: Any,
    device: torch.device,
    progress: Mapping[str, Any],
    settings: Mapping[str, Any],
) -> dict[str, Any]:
    return {
        "parameters": sum(p.numel() for p in training.model.parameters()),
        "images_seen": training.images_seen,
        **({"rollbacks": training.rollbacks} if training.on_nan == "rollback" or training.rollbacks else {}),
        **progress,
        "peak_memory_mb": peak_memory_mb(device),
        "environment": {
            **environment(str(device), trainer.world_size, str(trainer.precision)),
            "tf32": bool(settings.get("tf32", False)) and device.type == "cuda",
            "compile": settings.get("compile", False),
        },
    }


def _ended(trainer: Any) -> bool:
    """Tell whether the training ended by its own criterion: by early stopping, if the run has that."""
    stops = [callback for callback in trainer.callbacks if isinstance(callback, EarlyStopping)]
    return not stops or any(callback.stopped_epoch for callback in stops)


def _rollbacks(count: int) -> str:
    return f"{count}: the run diverged and went on from a checkpoint with smaller steps"


def report(
    summary: dict[str, Any], declared: Mapping[str, Figure], folder: RunFolder, beside: Mapping[str, Standing]
) -> None:
    """Print the figures of a finished run, and where its files are.

    Args:
        summary: content of ``summary.json``.
        declared: declarations of figures that are not genlab's own, by name.
        folder: folder of the run.
        beside: published figures beside the run's, by short name; empty if its experiment reproduces none.
    """
    speed, unit = speed_of(summary)
    print_figures(
        {name: Result.from_json(result) for name, result in summary["metrics"].items()},
        {
            **({"published": [one.line for one in beside.values()]} if beside else {}),
            "images seen": f"{summary['images_seen']:,}",
            unit: f"{rate(speed)} (training alone, without validation and pictures)" if speed else "-",
            **({"rollbacks": _rollbacks(summary["rollbacks"])} if summary.get("rollbacks") else {}),
            "wall time": f"{summary['wall_seconds']:.0f} s",
            "samples": str(text if (text := folder.samples / "final.txt").is_file() else folder.samples / "final.png"),
            **({"checkpoints": str(folder.checkpoints)} if any(folder.checkpoints.glob("*.ckpt")) else {}),
            **({"W&B": str(folder.path / "wandb")} if (folder.path / "wandb").is_dir() else {}),
        },
        declared,
    )
