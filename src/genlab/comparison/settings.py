"""Rows of a comparison: runs that differ only in their seed, one of each seed."""

from collections.abc import Sequence
from typing import Any

from genlab.comparison.cells import Row
from genlab.comparison.runs import ABSENT, Run


def settings(runs: Sequence[Run], told: dict[str, list[Any]]) -> tuple[list[Row], list[str]]:
    """Group runs into rows, and say what was left out.

    Args:
        runs: runs whose config can be read.
        told: keys in which they differ, each with its value in every run.
    """
    groups: dict[str, list[Run]] = {}
    labels: dict[str, str] = {}
    for i, run in enumerate(runs):
        key = repr((sorted(run.choices.items()), sorted(run.config.items())))
        groups.setdefault(key, []).append(run)
        words = [f"{name}={as_text(values[i])}" for name, values in told.items() if values[i] is not ABSENT]
        labels.setdefault(key, " ".join(words) or str(run.choices.get("model", run.path.name)))
    rows, twice = [], 0
    for key, group in groups.items():
        kept = _one_each_seed(group)
        twice += len(group) - len(kept)
        rows.append(Row(labels[key], kept))
    notes = (
        [f"{number_of_runs(twice)} left out: of one setting and seed, the last finished one counts"] if twice else []
    )
    return rows, notes


def number_of_runs(num: int) -> str:
    """Begin a sentence about a number of runs: ``1 run is`` or ``3 runs are``."""
    return "1 run is" if num == 1 else f"{num} runs are"


def _one_each_seed(runs: Sequence[Run]) -> list[Run]:
    """Keep the last finished run of each seed, because repeating a seed is not an independent measurement."""
    kept: dict[Any, Run] = {}
    for run in runs:
        before = kept.get(run.seed)
        if before is None or run.status == "done" or before.status != "done":
            kept[run.seed] = run
    return sorted(kept.values(), key=lambda run: (run.seed is None, run.seed or 0))


def as_text(value: Any) -> str:
    """Write a config value as on a command line, floats with six digits."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ",".join(map(as_text, value)) + "]"
    return "null" if value is None else str(value)


def seeds_of(runs: Sequence[Run]) -> str:
    """List the seeds of runs, such as ``0-4`` or ``0,7``."""
    seeds = [run.seed for run in runs]
    if len(seeds) > 2 and None not in seeds and seeds == list(range(seeds[0], seeds[0] + len(seeds))):  # type: ignore[operator, arg-type]
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join("?" if seed is None else str(seed) for seed in seeds)


def status_of(runs: Sequence[Run]) -> str:
    """Describe the states of runs, such as ``2 done, 1 failed: out of memory``."""
    words: dict[str, list[Run]] = {}
    for run in runs:
        words.setdefault(run.status, []).append(run)
    parts = []
    for word, group in words.items():
        text = word if len(runs) == 1 else f"{len(group)} {word}"
        details = dict.fromkeys(
            run.reason or (f"{run.images_seen:,} images" if run.images_seen is not None else "") for run in group
        )
        told = "; ".join(filter(None, details))
        parts.append(f"{text}: {told}" if told else text)
    return ", ".join(parts)
