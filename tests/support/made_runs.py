"""Run folders as ``genlab train`` leaves them, with made-up values."""

import json
from pathlib import Path
from typing import Any

import yaml
from omegaconf import OmegaConf

from genlab.metrics.result import Result

SAMPLES = {"dataset": "digits", "features": "digits", "num_samples": 1000, "num_real": 1347, "reference": "train"}
BLOCK: dict[str, Any] = {
    "paper": "A paper, 2020",
    "figures": {"nll": 80.0},
    "read": "table 1",
    "protocol": "exact",
    "tolerance": {"nll": {"value": 0.5, "why": "the spread of two reproductions"}},
    "images": 1000,
}
PROTOCOL = {"dataset": "digits", "split": "test", "num": 300, "levels": 2, "checkpoint": "best", "weights": "raw"}


def result(value: float, protocol: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"value": value, "protocol": {**protocol, **more}}


def make_run(
    folder: Path,
    *,
    model: str = "vae/vae",
    seed: int = 0,
    overrides: tuple[str, ...] = (),
    config: dict[str, Any] | None = None,
    metrics: dict[str, Any] | None = None,
    status: str | None = "done",
    **more: Any,
) -> Path:
    """A run folder as ``genlab train`` leaves it, with made-up values."""
    (folder / "samples").mkdir(parents=True)
    content = {
        "seed": seed,
        "run_dir": str(folder),
        "run_id": f"{abs(hash(folder)):x}"[:8],
        "name": "made-up",
        "choices": {"experiment": None, "model": model, "dataset": "digits"},
        "model": {"_target_": f"genlab.models.{model}", "width": 8},
        "training": {"optimizer": {"lr": 0.001}},
        "dataset": {"seed": seed, "root": f"{folder}/data"},
        "paths": {"data_dir": f"{folder}/data"},
        "logger": {"wandb": {"project": "genlab", "id": folder.name}},
        "monitor": {"metric": "val/bits_per_dim", "mode": "min"},
        "group": "sweep/one",
    }
    for key, value in (config or {}).items():
        *parents, last = key.split(".")
        node: Any = content
        for parent in parents:
            node = node.setdefault(parent, {})
        node[last] = value
    (folder / "config.yaml").write_text(OmegaConf.to_yaml(OmegaConf.create(content)))
    words = [f"model={model}", f"seed={seed}", *overrides]
    if status is not None:
        about = {"status": status, "overrides": words, "command": "genlab train " + " ".join(words), **more}
        (folder / "status.json").write_text(json.dumps(about))
    if metrics is not None:
        summary = {"metrics": metrics, "parameters": 100, "images_per_second": 50.0, "wall_seconds": 3.0}
        (folder / "summary.json").write_text(json.dumps(summary))
    return folder


def write_run(folder: Path, value: float | None, seed: int, **more: Any) -> None:
    """A run folder as ``genlab train`` leaves it, with a made-up figure; None for a run without one, which failed."""
    folder.mkdir(parents=True)
    experiment, block = more.get("experiment", "paper/tiny"), more.get("reference", BLOCK)
    config = {
        "seed": seed,
        "run_dir": str(folder),
        "choices": {"experiment": experiment, "model": "vae/vae", "dataset": "digits"},
        "reference": block,
        "callbacks": {},
        "metrics": {},
    }
    status = {
        "status": "failed" if value is None else "done",
        "overrides": [f"experiment={experiment}", f"seed={seed}"],
    }
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "status.json").write_text(json.dumps(status))
    curve = "images_seen,seconds,val/nll\n500,1,90\n1000,2,85\n"
    (folder / "metrics.csv").write_text(curve)
    if value is not None:
        result = Result(value, {**PROTOCOL, **more.get("protocol", {})}).to_json()
        summary = {"metrics": {"test/nll": result}, "images_seen": more.get("images_seen", 1000), "ended": True}
        (folder / "summary.json").write_text(json.dumps(summary))
