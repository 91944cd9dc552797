"""Checks of records: committed weights are measured again, or the training is repeated."""

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genlab.errors import InputError
from genlab.metrics.catalogue import figure
from genlab.reproduction.jobs import Job, run
from genlab.reproduction.recipes import Recipe
from genlab.reproduction.records import Record, records_of
from genlab.runs.folder import EVALUATION, SUMMARY

ROUNDING = 1e-4  # relative difference that another processor may make when the same weights are measured


@dataclass(frozen=True)
class Check:
    """The outcome of a check of one figure.

    Attributes:
        what: what was checked, in words.
        passed: whether the new value agrees with the record.
    """

    what: str
    passed: bool


def cheapest(recipes: Sequence[Recipe], results: Path) -> Recipe:
    """Choose the recipe that needs no file, has records of several seeds, and took the least CPU time.

    Raises:
        InputError: if there is none.
    """

    def seconds(recipe: Recipe) -> float:
        trainings = [record.content["training"] for record in records_of(recipe.name, results)]
        return min(float(one.get("cpu_seconds") or one["wall_seconds"]) for one in trainings)

    possible = [recipe for recipe in recipes if not recipe.needs_files and len(records_of(recipe.name, results)) > 1]
    if not possible:
        raise InputError(f"no recipe with records of two seeds in {results} does without files; name one")
    return min(possible, key=seconds)


def check(recipe: Recipe, results: Path, retrain: bool = False) -> list[Check]:
    """Measure the committed weights of a recipe again or, if there are none, repeat its training.

    Measured again, a value must be the recorded one up to rounding. Trained again, it must lie within three standard
    deviations of the recorded seeds.

    Args:
        recipe: recipe to check.
        results: folder of all records.
        retrain: whether to repeat the training even if there are weights.

    Raises:
        InputError: if the recipe has no record, or only one seed and no weights.
    """
    records = records_of(recipe.name, results)
    if not records:
        raise InputError(f"{recipe.name} has no record in {results}: genlab reproduce {recipe.name} makes one")
    kept = [] if retrain else [record for record in records if record.weights is not None]
    with tempfile.TemporaryDirectory() as folder:
        if kept:
            return [one for record in kept for one in _measured_again(recipe, record, Path(folder))]
        return _trained_again(recipe, records, Path(folder))


def tell(checks: Sequence[Check]) -> None:
    """Print a line for each check.

    Args:
        checks: checks that were made.

    Raises:
        InputError: if one of them failed.
    """
    for one in checks:
        print(f"{'passed' if one.passed else 'FAILED'}: {one.what}")
    if failed := sum(not one.passed for one in checks):
        raise InputError(f"{failed} of {len(checks)} checks failed")


def _measured_again(recipe: Recipe, record: Record, folder: Path) -> list[Check]:
    assert record.weights is not None
    copy = folder / f"{recipe.name}-{record.seed}"
    shutil.copytree(record.weights, copy)
    draws = record.content["config"]["metrics"].get("importance_samples") or "null"
    command = ["evaluate", str(copy), f"metrics.importance_samples={draws}"]
    if subprocess.run([sys.executable, "-m", "genlab", *command], stdout=subprocess.DEVNULL).returncode != 0:
        raise InputError(f"{recipe.name}, seed {record.seed}: its weights in {record.weights} cannot be measured")
    content = json.loads((copy / EVALUATION).read_text(encoding="utf-8"))
    measured = {name.rpartition("/")[2]: value["value"] for name, value in content["metrics"].items()}
    found = []
    for name in recipe.published.figures or [record.main_figure]:
        before, now = record.figures[name].value, measured[name]
        words = f"{recipe.name}, seed {record.seed}: {figure(name).label} of its weights {now:.6g}, record {before:.6g}"
        found.append(Check(words, abs(now - before) <= ROUNDING * max(abs(before), 1e-12)))
    return found


def _trained_again(recipe: Recipe, records: Sequence[Record], folder: Path) -> list[Check]:
    if len(records) < 2:
        raise InputError(f"{recipe.name} has one seed and no weights: a second record gives it a spread to check by")
    started = time.monotonic()
    done = run(Job(recipe, records[0].seed, ("logger=csv",)), folder, None)
    assert done is not None
    metrics = done.read_json(SUMMARY)["metrics"]
    measured = {name.rpartition("/")[2]: value["value"] for name, value in metrics.items()}
    found = []
    for name in recipe.published.figures or [records[0].main_figure]:
        values = [record.figures[name].value for record in records]
        mean, spread = statistics.mean(values), statistics.stdev(values)
        words = (
            f"{recipe.name}: {figure(name).label} {measured[name]:.6g} after {time.monotonic() - started:.0f} s of "
            f"training, records {mean:.6g} with a standard deviation of {spread:.2g} over {len(values)} seeds"
        )
        found.append(Check(words, abs(measured[name] - mean) <= 3 * spread))
    return found
