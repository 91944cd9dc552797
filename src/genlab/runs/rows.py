"""What the rows of a run's ``metrics.csv`` say about the course of its training."""

import csv
from collections.abc import Mapping
from typing import Any

from genlab.runs.folder import METRICS, RunFolder


def _column(folder: RunFolder, name: str) -> list[float]:
    path = folder.path / METRICS
    if not path.is_file():
        return []
    with path.open(newline="", encoding="utf-8") as file:
        return [float(row[name]) for row in csv.DictReader(file) if row.get(name)]


def seconds_logged(folder: RunFolder) -> float:
    """Read how long a run had been training when it wrote its last row.

    Args:
        folder: folder of the run.
    """
    return max(_column(folder, "seconds"), default=0.0)


def images_logged(folder: RunFolder) -> int:
    """Read how many training images a run had seen when it wrote its last row.

    Args:
        folder: folder of the run.
    """
    return int(max(_column(folder, "images_seen"), default=0))


def last_images_seen(folder: RunFolder) -> int | None:
    """Read how many training images a run had seen in its last row, even while the file is being written.

    Only the end of the file is read.

    Args:
        folder: folder of the run.
    """
    path = folder.path / METRICS
    try:
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - 4096))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return None
    for line in reversed(lines):
        word = line.partition(",")[0]
        if word.isdecimal() and len(word) < 20:
            return int(word)
    return None


def last_rate(folder: RunFolder) -> float | None:
    """Read the last rate of training that a run logged, in images per second; None if there is none.

    Args:
        folder: folder of the run.
    """
    return next(reversed(_column(folder, "train/images_per_second")), None)


def count_rows(folder: RunFolder) -> int:
    """Count the rows of a run.

    Args:
        folder: folder of the run.
    """
    path = folder.path / METRICS
    if not path.is_file():
        return 0
    with path.open(newline="", encoding="utf-8") as file:
        return sum(1 for _ in csv.DictReader(file))


def rows_to_keep(status: Mapping[str, Any], rows_logged: int) -> int:
    """Count the rows of ``metrics.csv`` up to a checkpoint, with the results of a run that was done and trains on.

    Args:
        status: content of the run's ``status.json``.
        rows_logged: number of rows that training had logged when the checkpoint was written.
    """
    finished = status.get("finished")
    if finished is None or rows_logged < finished["rows_logged"]:
        return rows_logged
    return int(finished["rows"] + rows_logged - finished["rows_logged"])
