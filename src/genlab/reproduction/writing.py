"""Writing the record of a finished run, and keeping its weights if they are small."""

import csv
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf

from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.metrics.published import fingerprint
from genlab.reproduction.records import Record, path_of
from genlab.runs.checkpoints import write_checkpoint
from genlab.runs.config import portable, read_config
from genlab.runs.evaluations import kept as kept_evaluations
from genlab.runs.folder import CONFIG, EVALUATION, METRICS, STATUS, SUMMARY, RunFolder
from genlab.runs.loading import load
from genlab.runs.verdicts import ended

WEIGHTS_LIMIT = 2 * 2**20  # bytes of the weights that are kept beside their record
POINTS = 60  # points of the training curve that are kept


def write_record(recipe: str, folder: RunFolder, results: Path) -> Record:
    """Write the record of a finished run, and its run folder beside it, with its weights if they are small.

    Args:
        recipe: name of the run's recipe.
        folder: folder of the run.
        results: folder of all records.

    Raises:
        InputError: if the run is not done.
    """
    config, status, summary = read_config(folder), folder.read_json(STATUS), folder.read_json(SUMMARY)
    if status.get("status") != "done":
        raise InputError(f"{folder.path} is {status.get('status')}, and only a finished run gives a record")
    target = path_of(recipe, config["seed"], results)
    target.parent.mkdir(parents=True, exist_ok=True)
    kept, weights = _keep_run(folder, config, target.with_suffix(""))
    content = {
        "recipe": recipe,
        "seed": config["seed"],
        "reference_sha256": fingerprint(config["reference"]),
        "reference": config["reference"],
        "figures": {name.rpartition("/")[2]: value for name, value in summary["metrics"].items()},
        "evaluations": [
            {**one, "metrics": {name.rpartition("/")[2]: value for name, value in one["metrics"].items()}}
            for one in kept_evaluations(folder.read_json(EVALUATION))
        ],
        "training": of_training(config, summary, ended(config, summary, folder)),
        "curve": _curve(folder.path / METRICS, config["monitor"]["metric"]),
        "data": _splits(folder),
        "weights": {**weights, "kept": kept},
        "environment": summary["environment"],
        "commits": status.get("commits") or [summary["environment"]["commit"]],
        "command": status.get("command"),
        "resumed": status.get("resumed", []),
        "config": portable(config, folder),
    }
    write_atomically(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return Record(config["seed"], content, target)


def of_training(config: Mapping[str, Any], summary: Mapping[str, Any], ended: bool) -> dict[str, Any]:
    """Collect what a record says of a training.

    Args:
        config: config of the run.
        summary: content of its ``summary.json``.
        ended: whether the training ended as its experiment says.
    """
    return {
        "images_seen": summary["images_seen"],
        "epochs": summary["epochs"],
        "parameters": summary["parameters"],
        "ended": ended,
        "selection": summary["monitor"],
        "wall_seconds": summary["wall_seconds"],
        "cpu_seconds": summary.get("cpu_seconds"),
        "precision": summary["environment"]["precision"],
        "compile": config["trainer"].get("compile", False),
    }


def _curve(path: Path, metric: str) -> list[list[float]]:
    """Read at most 60 points of the monitored figure: pairs of images seen and value."""
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        rows = [[int(float(row["images_seen"])), float(row[metric])] for row in csv.DictReader(file) if row.get(metric)]
    last = len(rows) - 1
    return [rows[round(i * last / (POINTS - 1))] for i in range(POINTS)] if last >= POINTS else rows


def _splits(folder: RunFolder) -> dict[str, Any]:
    """Describe the splits: sizes, hashes of the stored examples, and one of the test examples as models see them."""
    data = load(folder.path).data
    seen = data.first("test").contiguous().numpy().tobytes()
    return {
        "sizes": {split: len(examples) for split, examples in data.splits.items()},
        "sha256": {split: examples.fingerprint() for split, examples in data.splits.items()},
        "test_as_seen_sha256": hashlib.sha256(seen).hexdigest(),
    }


def _keep_run(folder: RunFolder, config: Mapping[str, Any], target: Path) -> tuple[bool, dict[str, Any]]:
    """Write a run folder with what a comparison reads and, unless they are too large, the weights that open the model.

    Returns:
        Whether the weights were kept, and facts about them.
    """
    run = load(folder.path)
    shutil.rmtree(target, ignore_errors=True)
    (target / "checkpoints").mkdir(parents=True)
    path = target / "checkpoints" / f"{run.checkpoint}.ckpt"
    state = {f"model.{name}": value for name, value in run.model.state_dict().items()}
    write_checkpoint({"state_dict": state}, path)
    facts = {
        "checkpoint": run.checkpoint,
        "weights": run.used_weights,
        "bytes": path.stat().st_size,
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    kept = path.stat().st_size <= WEIGHTS_LIMIT
    if not kept:
        shutil.rmtree(path.parent)
    write_atomically(target / CONFIG, OmegaConf.to_yaml(OmegaConf.create(portable(config, folder))))
    shutil.copyfile(folder.path / STATUS, target / STATUS)
    summary = folder.read_json(SUMMARY)
    if (folder.path / EVALUATION).exists():
        shutil.copyfile(folder.path / EVALUATION, target / EVALUATION)
    # Without the newest checkpoint, nothing else would say whether early stopping ended the training.
    RunFolder(target).write_json(SUMMARY, {**summary, "ended": ended(config, summary, folder)})
    return kept, facts
