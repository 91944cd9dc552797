"""The facts of a summary about the course of a training: epochs, rate, wall and CPU time over all its processes."""

from pathlib import Path
from typing import Any

from genlab.callbacks.stopwatch import Stopwatch
from genlab.callbacks.throughput import Throughput
from genlab.runs.budget import epochs_seen
from genlab.runs.folder import RunFolder
from genlab.runs.rows import last_rate, seconds_logged


def progress_of(epochs: int, callbacks: dict[str, Any]) -> dict[str, Any]:
    """Collect what the summary says of a training's course.

    Args:
        epochs: number of epochs.
        callbacks: callbacks of the training, whose states checkpoints keep.
    """
    rates = [c.images_per_second for c in callbacks.values() if isinstance(c, Throughput)]
    (watch,) = [c for c in callbacks.values() if isinstance(c, Stopwatch)]
    return {
        "epochs": epochs,
        "images_per_second": rates[0] if rates else None,
        "wall_seconds": round(watch.seconds, 1),
        "cpu_seconds": round(watch.cpu_seconds, 1),
    }


def progress_kept(folder: RunFolder, found: tuple[Path, dict[str, Any]], callbacks: dict[str, Any]) -> dict[str, Any]:
    """Collect the same of a training that ended in a process of an earlier version, which did not keep it.

    Args:
        folder: folder of the run.
        found: path and content of its newest checkpoint.
        callbacks: callbacks of the training, in the state of the checkpoint.
    """
    states = found[1]["callbacks"]
    progress = progress_of(epochs_seen(found[1]), callbacks)
    progress["wall_seconds"] = round(states.get("Stopwatch", {}).get("seconds", seconds_logged(folder)), 1)
    kept = states.get("Stopwatch", {}).get("cpu_seconds")
    progress["cpu_seconds"] = None if kept is None else round(kept, 1)
    if progress["images_per_second"] is None:
        progress["images_per_second"] = last_rate(folder)
    return progress
