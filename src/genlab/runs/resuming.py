"""Decide whether a run may be resumed, and from which checkpoint."""

import re
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genlab.composition.path_keys import is_path
from genlab.errors import InputError
from genlab.runs.checkpoints import BEFORE, NEWEST, data_of, read_checkpoint
from genlab.runs.config import below, flat, within
from genlab.runs.folder import METRICS, STATUS, RunFolder
from genlab.runs.lock import STALE

# Keys that change only how long the run lasts, or nothing of its mathematics. All others must keep their values.
MAY_CHANGE = (
    "budget",
    "training.images",
    "training.on_nan",
    "training.max_rollbacks",
    "trainer.max_epochs",
    "trainer.max_steps",
    "trainer.max_time",
    "trainer.accelerator",
    "trainer.devices",
    "trainer.num_nodes",
    "trainer.strategy",
    "trainer.profiler",
    "trainer.enable_progress_bar",
    "logger",
    "callbacks.progress",
    "callbacks.throughput",
    "callbacks.sample_metrics.measures",
    "callbacks.noise_to_data",
    "callbacks.likelihood_histogram",
    "evaluations",
    "metrics",
    "paths",
    "tags",
    "notes",
)
# Keys that do not describe the run itself. Paths that say where its data lie on this machine are not compared either.
NOT_COMPARED = (
    "run_dir",
    "resume",
    "sweep",
    "dataset.num_workers",
    "dataset.cache_dir",
    "dataset.source.cache_dir",
    "callbacks.sample_metrics.cache_dir",
)
BUDGET = ("budget", "training.images", "trainer.max_epochs", "trainer.max_steps", "trainer.max_time")


def differences(saved: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """List the keys in which two configs of a run differ, with both values; where data lie is left out.

    Args:
        saved: config that the run was saved with.
        now: config to resume it with.
    """
    before, after = within(flat(saved)), within(flat(now))
    return {
        key: (before.get(key), after.get(key))
        for key in sorted(before.keys() | after.keys())
        if before.get(key) != after.get(key) and not below(key, NOT_COMPARED) and not _is_place(key, after.get(key))
    }


def _is_place(key: str, value: Any) -> bool:
    """Tell whether a value says where data lie; not so the run of a data set of codes, which decides what they are."""
    key = re.sub(r"^callbacks\.\w+\.features\.", "metrics.features.", key)  # a copy of the evaluation's features
    return below(key, ("dataset", "tokenizer", "metrics")) and not key.endswith(".run") and is_path(key, value)


def check_unchanged(folder: RunFolder, saved: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Check that a run's config has changed only where it may, and list the keys of the budget that have changed.

    Args:
        folder: folder of the run, for the error message.
        saved: config that the run was saved with.
        now: config to resume it with.

    Raises:
        InputError: if other keys have changed; the message names them.
    """
    changed = differences(saved, now)
    forbidden = [f"{key} was {a!r} and is {b!r}" for key, (a, b) in changed.items() if not below(key, MAY_CHANGE)]
    if forbidden:
        raise InputError(
            f"{folder.path} cannot be resumed with another config: {'; '.join(forbidden)}. What may change: "
            f"{', '.join(MAY_CHANGE)}"
        )
    return [key for key in changed if below(key, BUDGET)]


def check_not_running(folder: RunFolder, status: Mapping[str, Any]) -> None:
    """Check that no other machine seems to train a run with a version of genlab that held no lock.

    Args:
        folder: folder of the run, which this process holds.
        status: content of its ``status.json``.

    Raises:
        InputError: if its status is that of another machine, and something was written a short while ago.
    """
    if status.get("status") != "running" or status.get("host") in (None, socket.gethostname()):
        return
    paths = [folder.path / STATUS, folder.path / METRICS, folder.checkpoints / NEWEST]
    age = time.time() - max(path.stat().st_mtime for path in paths if path.is_file())
    if age < STALE:
        raise InputError(
            f"{folder.path} is being trained on {status['host']} by the process {status.get('pid')}, which wrote in it "
            f"{max(0.0, age):.0f} s ago: wait for its end; if you know that it is gone, force=true goes on at once "
            f"({STALE:.0f} s without a sign of life do so, too)"
        )


def trained_on(found: tuple[Path, Mapping[str, Any]] | None) -> Mapping[str, Any] | None:
    """Give the identity of the data that a checkpoint's weights were trained on.

    Args:
        found: a checkpoint's path and content; None if the run has none.

    Returns:
        The identity; empty for a checkpoint of an earlier version, None without a checkpoint.
    """
    return None if found is None else data_of(found[1])


def newest_checkpoint(folder: RunFolder, put_aside: bool = True) -> tuple[Path, dict[str, Any]] | None:
    """Read the newest checkpoint of a run; None if the run ended before its first checkpoint.

    If it is damaged, the one before it is read instead, and a line on stderr says so.

    Args:
        folder: folder of the run.
        put_aside: whether to rename a damaged checkpoint to ``*.damaged`` and to print the line; if not, nothing is
            written.

    Returns:
        The checkpoint's path and content.

    Raises:
        InputError: if there are checkpoints, but none can be read.
    """
    damaged: dict[Path, str] = {}
    for name in (NEWEST, BEFORE):
        path = folder.checkpoints / name
        if not path.is_file():
            continue
        try:
            checkpoint = read_checkpoint(path)
        except InputError as error:
            damaged[path] = str(error)
            continue
        for other, line in damaged.items() if put_aside else ():
            other.replace(other.with_suffix(".damaged"))
            print(f"genlab: {line}: going on from {name} instead", file=sys.stderr)
        return path, checkpoint
    if damaged:
        raise InputError(f"{'; '.join(damaged.values())}: no checkpoint is left to resume {folder.path} from")
    return None
