"""The content of a comparison page: table, curves, pictures, commands and protocols."""

import base64
import csv
import io
import math
import struct
import sys
import time
from collections.abc import Iterable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genlab.comparison.against_settings import against_settings
from genlab.comparison.formats import descriptions, title
from genlab.comparison.picture import as_picture, real_of, samples_of
from genlab.comparison.runs import Run
from genlab.comparison.table import Table
from genlab.errors import InputError
from genlab.machine.rate import rate
from genlab.metrics.catalogue import TRAINING, figure
from genlab.metrics.display import digits, remark
from genlab.metrics.result import Result
from genlab.pictures.files import opened_picture
from genlab.runs.folder import METRICS
from genlab.runs.speed import speed_of

NUM_POINTS = 200  # upper limit for one curve
ALL_POINTS = 500_000  # upper limit for all curves together
NUM_GRIDS = 12  # upper limit on the pictures from training of one run
ALL_GRIDS = 600  # upper limit for all runs together
# What Pillow raises for files that are damaged, are no picture, or would fill the memory.
UNREADABLE = (OSError, ValueError, SyntaxError, EOFError, struct.error, MemoryError, Image.DecompressionBombError)
SIDE = 280  # upper limit on the height and width of a picture, in pixels


def report(table: Table, command: str, heading: str | None = None) -> dict[str, Any]:
    """Collect the content of the page that :func:`~genlab.comparison.page.write_page` writes, as plain values."""
    runs = [(i, run) for i, row in enumerate(table.rows) for run in row.runs]
    shared = ", ".join(f"{key}={value}" for key, value in table.shared.items())
    # A page of many runs shows fewer pictures per run, and only those of each row's first run, so that it loads fast.
    pictured = {id(run) for _, run in runs} if len(runs) <= 100 else {id(row.runs[0]) for row in table.rows}
    num_grids = min(NUM_GRIDS, max(2, ALL_GRIDS // max(1, len(pictured))))
    curves = [_curves(run.path / METRICS) for _, run in runs]
    num_points = min(NUM_POINTS, max(20, ALL_POINTS // max(1, sum(map(len, curves)))))
    of_runs = [
        _run(number, i, run)
        | {"curves": {name: _thinned(curve, num_points) for name, curve in curves[number].items()}}
        | {"grids": _grids(run, num_grids) if id(run) in pictured else []}
        | {"final": _final(run) if id(run) in pictured else None}
        for number, (i, run) in enumerate(runs)
    ]
    signs = 3 if any(column.role == "published" for column in table.columns) else 2  # lines about signs, at the end
    numbers = {id(run): number for number, (_, run) in enumerate(runs)}
    return {
        "title": heading or shared or "Comparison",
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "version": version("genlab"),
        "command": command,
        "columns": [
            {
                "key": c.key,
                "title": title(c),
                "kind": c.role,
                "unit": c.unit,
                "better": c.better,
                "description": c.description,
                "protocol": c.protocol,
            }
            for c in table.columns
        ],
        "rows": [
            {
                "id": i,
                "label": row.label,
                "cells": {
                    key: {"text": cell.text, "value": _finite(cell.value), "best": cell.best}
                    for key, cell in row.cells.items()
                },
                "runs": [numbers[id(run)] for run in row.runs],
                "published": dict(row.published.figures) if row.published else {},
                "status": {s: sum(run.status == s for run in row.runs) for s in {run.status for run in row.runs}},
            }
            for i, row in enumerate(table.rows)
        ],
        "runs": of_runs,
        "real": _real([run for _, run in runs]),
        "against_settings": against_settings(runs),
        "metrics": _ordered(dict.fromkeys(name for run in of_runs for name in run["curves"])),
        "notes": [*table.notes, *_sources(table), *descriptions(table)[-signs:]] if table.rows else table.notes,
    }


def _sources(table: Table) -> list[str]:
    """Say of each experiment with published figures where they were read, and how they were measured."""
    shown = {column.key for column in table.columns}
    found = []
    for row in table.rows:
        if (published := row.published) is not None:
            names = [name for name in published.figures if f"{name}_published" in shown]
            values = ", ".join(f"{figure(name).label} {row.standings[name].target}" for name in names)
            how = f"read: {published.read}; protocol: {published.protocol}"
            found += [f"published {values}: {published.paper} ({how})"] if names else []
    return list(dict.fromkeys(found))


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _run(number: int, row: int, run: Run) -> dict[str, Any]:
    return {
        "id": number,
        "row": row,
        "path": str(run.path),
        "name": run.path.name,
        "seed": run.seed,
        "status": run.status,
        "reason": run.reason,
        "command": run.command,
        "facts": _facts(run),
        "figures": {
            name: {
                "text": digits(result.value),
                "protocol": {"": remark(result), **result.protocol},
                "warning": result.warning,
            }
            for name, result in _figures(run).items()
        },
    }


def _figures(run: Run) -> dict[str, Result]:
    """Give the results of a run by name; results under other protocols get a number: ``test/fid [2]``."""
    found = dict(run.figures)
    for name, results in run.results.items():
        others = [result for result in results if result.protocol != run.figures[name].protocol]
        found |= {f"{name} [{number}]": result for number, result in enumerate(others, start=2)}
    return found


def _facts(run: Run) -> dict[str, str]:
    """Give facts about a run, and the verdicts on it alone, as text by name."""
    summary, environment = run.summary, run.summary.get("environment") or {}
    speed, unit = speed_of(summary)
    facts = {
        "images seen": summary.get("images_seen", run.images_seen),
        "epochs": summary.get("epochs"),
        "parameters": summary.get("parameters"),
        unit: None if speed is None else rate(speed),
        "wall time": f"{summary['wall_seconds']:,.0f} s" if "wall_seconds" in summary else None,
        "peak memory": f"{summary['peak_memory_mb']:,.0f} MB" if summary.get("peak_memory_mb") else None,
        "device": environment.get("device"),
        "devices": environment.get("devices"),
        "precision": environment.get("precision"),
        "TF32 in training": "yes" if environment.get("tf32") else None,
        "compile": environment.get("compile"),
        "commit": environment.get("commit"),
        **{f"published {figure(name).label}": f"{one.target}: {one.words}" for name, one in run.standings.items()},
        **{f"version of {name}": version for name, version in (environment.get("versions") or {}).items()},
    }
    return {k: f"{v:,}" if isinstance(v, int) else str(v) for k, v in facts.items() if v is not None}


# -- curves ------------------------------------------------------------------------------------------------------------


Points = list[tuple[float, float | None, float]]  # images seen, seconds, value


def _curves(path: Path) -> dict[str, Points]:
    """Read the curves of all figures logged more than once, even while the file is being written."""
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.DictReader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        return {}
    points: dict[str, Points] = {}
    for row in rows:
        images = _number(row.get("images_seen"))
        if images is None:
            continue
        seconds = _number(row.get("seconds"))
        for name, text in row.items():
            value = _number(text) if name not in ("images_seen", "seconds", "epoch", None) else None
            if value is not None and not name.startswith("test/"):
                points.setdefault(name, []).append((images, seconds, value))
    return {name: found for name, found in points.items() if len(found) > 1}


def _thinned(points: Points, num: int) -> dict[str, list[float | None]]:
    kept = [points[i] for i in np.linspace(0, len(points) - 1, min(len(points), num)).round().astype(int)]
    images, seconds, values = zip(*kept, strict=True)
    return {"images": [*images], "seconds": [*seconds], "values": [float(f"{v:.5g}") for v in values]}


def _number(text: str | None) -> float | None:
    try:
        return _finite(float(text)) if text else None
    except (ValueError, TypeError):
        return None


def _ordered(names: Iterable[str]) -> list[str]:
    names = [*names]
    places = {
        name: place
        for name in names
        if (name.startswith("val/") or name in TRAINING) and (place := figure(name).curve) is not None
    }
    first = sorted(places, key=places.__getitem__)
    validation = sorted(name for name in names if name.startswith("val/") and name not in first)
    return [*first, *validation, *sorted(set(names) - {*first, *validation})]


# -- pictures ----------------------------------------------------------------------------------------------------------


def _grids(run: Run, num: int) -> list[dict[str, Any]]:
    """Load up to ``num`` pictures of samples over the course of training, evenly spaced from first to last."""
    paths = sorted(path for path in run.folder.samples.glob("*.png") if path.stem.isdecimal())
    if not paths:
        return []
    chosen = dict.fromkeys(np.linspace(0, len(paths) - 1, min(len(paths), num)).round().astype(int))
    grids = []
    for path in (paths[i] for i in chosen):
        try:
            with opened_picture(path, ("PNG",)) as image:
                grids.append({"images_seen": int(path.stem), "src": _embedded(image.convert("RGB"))})
        except InputError as error:  # for example, a file that is only partly copied
            print(f"genlab: left out of the page: {error}", file=sys.stderr)
    return grids


def _final(run: Run) -> str | None:
    images = samples_of(run)
    return None if images is None else _embedded(_sheet(images))


def _real(runs: Sequence[Run]) -> list[dict[str, str]]:
    found: dict[str, str] = {}
    for run in runs:
        dataset = run.choices.get("dataset", "data")
        if dataset not in found and (images := real_of(run)) is not None:
            found[dataset] = _embedded(_sheet(images))
    return [{"dataset": dataset, "src": src} for dataset, src in found.items()]


def _sheet(images: np.ndarray) -> Image.Image:
    """Arrange images, uint8 ``(N, C, H, W)``, in a square grid at their original size; the page enlarges them."""
    columns = math.ceil(math.sqrt(len(images)))
    height, width = images.shape[2:]
    sheet = Image.new(
        "RGB", (columns * (width + 1) + 1, -(-len(images) // columns) * (height + 1) + 1), (128, 128, 128)
    )
    for i, image in enumerate(images):
        sheet.paste(as_picture(image), (1 + i % columns * (width + 1), 1 + i // columns * (height + 1)))
    return sheet


def _embedded(image: Image.Image) -> str:
    if max(image.size) > SIDE:
        scale = SIDE / max(image.size)
        size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
        image = image.resize(size, Image.Resampling.BOX)
    content = io.BytesIO()
    image.save(content, format="WEBP", quality=75, method=2)
    return "data:image/webp;base64," + base64.b64encode(content.getvalue()).decode()
