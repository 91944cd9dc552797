"""Records of runs that began before their recipe was written, made of kept run folders without a checkpoint.

Such a record cannot prove that the published block was there first: its hash is null, and every table says so.
"""

import json
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.reproduction.recipes import Recipe
from genlab.reproduction.records import Record
from genlab.reproduction.writing import of_training
from genlab.runs.config import portable, read_config
from genlab.runs.folder import STATUS, SUMMARY, RunFolder


def import_record(recipe: Recipe, folder: RunFolder, results: Path) -> Record:
    """Write the record of a run that is older than its recipe.

    Args:
        recipe: recipe that the run is to count for.
        folder: folder of the run: ``config.yaml``, ``status.json`` and ``summary.json``.
        results: folder of all records.

    Raises:
        InputError: if the run is not done, trained on other data or with another model than the recipe, or lacks one
            of its figures.
    """
    config, status, summary = read_config(folder), folder.read_json(STATUS), folder.read_json(SUMMARY)
    if status.get("status") != "done":
        raise InputError(f"{folder.path} is {status.get('status')}, and only a finished run gives a record")
    figures = {name.rpartition("/")[2]: value for name, value in summary["metrics"].items()}
    for what, here, there in (
        ("dataset", config["choices"]["dataset"], recipe.dataset),
        ("model", config["choices"]["model"], recipe.model),
    ):
        if here != there:
            raise InputError(f"{folder.path} has the {what} {here}, and {recipe.name} has {there}")
    if missing := recipe.published.figures.keys() - figures.keys():
        raise InputError(f"{folder.path} has no figure {min(missing)}, which {recipe.name} publishes")
    commit = summary["environment"]["commit"]
    protocol = next(iter(figures.values()))["protocol"]
    content: dict[str, Any] = {
        "recipe": recipe.name,
        "seed": config["seed"],
        "reference_sha256": None,  # the block was written after the run
        "reference": recipe.block,
        "imported_from": folder.path.as_posix(),
        "figures": figures,
        "training": of_training(config, summary, True),
        "curve": [],
        "data": {"sizes": protocol.get("sizes")},
        "weights": {"checkpoint": protocol.get("checkpoint"), "weights": protocol.get("weights"), "kept": False},
        "environment": summary["environment"],
        "commits": [commit],
        "clean": commit is not None and not commit.endswith("+"),
        "command": status.get("command"),
        "resumed": status.get("resumed", []),
        "config": portable(config, folder),
    }
    target = results / recipe.name / f"{config['seed']}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(target, json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return Record(config["seed"], content, target)
