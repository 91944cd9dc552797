"""Curves of a run's logged figures, read from ``metrics.csv`` for a page."""

import csv
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from genlab.metrics.catalogue import TRAINING, figure

NUM_POINTS = 200  # upper limit for one curve
ALL_POINTS = 200_000  # upper limit for all curves of a page together
AXES = {"images": "images_seen", "seconds": "seconds", "epochs": "epoch", "steps": "step"}  # of a page, in the file

At = tuple[float | None, ...]  # a value of each of AXES
Points = list[tuple[At, float]]


def read_curves(path: Path) -> dict[str, Points]:
    """Read the curves of all figures logged more than once, even while the file is being written.

    Args:
        path: path of a run's ``metrics.csv``; a file that is missing or unreadable gives no curves.

    Returns:
        For each figure the places on the axes with the value there, in order of time.
    """
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    points: dict[str, Points] = {}
    for row in rows:
        at = tuple(_number(row.get(column)) for column in AXES.values())
        if at[0] is None:
            continue
        for name, text in row.items():
            value = _number(text) if name is not None and name not in AXES.values() else None
            if value is not None and not name.startswith("test/"):
                points.setdefault(name, []).append((at, value))
    return {name: found for name, found in points.items() if len(found) > 1}


def points_each(num_curves: int) -> int:
    """Give the number of points that each of so many curves may have on a page."""
    return min(NUM_POINTS, max(20, ALL_POINTS // max(1, num_curves)))


def thinned(curves: Mapping[str, Points], num: int) -> dict[str, Any]:
    """Thin the curves of a run for a page; curves that were logged together share their places on the axes.

    Args:
        curves: curves of one run.
        num: upper limit on the number of points of a curve; its first and last points are kept.

    Returns:
        ``at``: a list of places, each a list of values for each of ``images``, ``seconds``, ``epochs`` and ``steps``
        that was logged; ``curves``: for each figure the number of its places in that list, and its values.
    """
    places: dict[tuple[At, ...], int] = {}
    found = {}
    for name, points in curves.items():
        kept = [points[i] for i in np.linspace(0, len(points) - 1, min(len(points), num)).round().astype(int)]
        number = places.setdefault(tuple(at for at, _ in kept), len(places))
        found[name] = {"at": number, "values": [float(f"{value:.5g}") for _, value in kept]}
    return {"at": [_axes(of) for of in places], "curves": found}


def _axes(places: Iterable[At]) -> dict[str, list[float | None]]:
    columns = zip(AXES, zip(*places, strict=True), strict=True)
    return {axis: [*map(_whole, values)] for axis, values in columns if any(value is not None for value in values)}


def _whole(value: float | None) -> float | int | None:
    """Write a whole number without a point, which takes less room."""
    return int(value) if value is not None and value.is_integer() else value


def _number(text: str | None) -> float | None:
    try:
        value = float(text) if text else None
    except (ValueError, TypeError):
        return None
    return value if value is not None and math.isfinite(value) else None


def in_order(names: Iterable[str]) -> list[str]:
    """Order figures as a page offers them: the usual ones of validation and training, then validation, then others."""
    names = [*names]
    places = {
        name: place
        for name in names
        if (name.startswith("val/") or name in TRAINING) and (place := figure(name).curve) is not None
    }
    first = sorted(places, key=places.__getitem__)
    validation = sorted(name for name in names if name.startswith("val/") and name not in first)
    return [*first, *validation, *sorted(set(names) - {*first, *validation})]
