"""The content of a comparison page: table, curves, pictures, commands, configs and protocols."""

import hashlib
import math
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from genlab.comparison.against_settings import against_settings
from genlab.comparison.cells import Column, Row, Spread, Table
from genlab.comparison.curves import in_order, points_each, read_curves, thinned
from genlab.comparison.decisions import said, sentences
from genlab.comparison.formats import signs
from genlab.comparison.gallery import BUDGET, Gallery
from genlab.comparison.runs import Run
from genlab.comparison.saved_configs import beside_usual, usual_config
from genlab.comparison.shown_files import SMALL, pictures_of
from genlab.comparison.table import compared
from genlab.machine.rate import rate
from genlab.metrics.catalogue import figure
from genlab.metrics.display import digits, remark
from genlab.metrics.result import Result
from genlab.runs.folder import METRICS
from genlab.runs.speed import speed_of

MANY = 100  # runs; of more, only the first of each row is shown in pictures, and fewer, so that the page loads fast


def report_of(
    runs: Sequence[Run],
    gallery: Gallery | None = None,
    *,
    figures: Sequence[str] | None,
    sort: str | None,
    spread: Spread,
    command: str,
    heading: str | None,
    baseline: str | None = None,
) -> dict[str, Any]:
    """Compare runs as :func:`~genlab.comparison.table.compared` does, and collect the content of their page.

    Args:
        runs: runs to compare.
        gallery: what encodes the pictures; None to embed them.
        figures: names of the figures to show; None for all.
        sort: column to sort by.
        spread: quantity shown after ± for several seeds.
        command: command line that made the page.
        heading: title of the page; None for what all runs share.
        baseline: setting that the others are compared with.

    Raises:
        InputError: if no run has one of the figures or the column to sort by.
    """
    return report(compared(runs, figures or ["all"], sort, spread, baseline), command, heading, gallery)


def report(table: Table, command: str, heading: str | None = None, gallery: Gallery | None = None) -> dict[str, Any]:
    """Collect the content of the page that :func:`~genlab.comparison.page.write_page` writes, as plain values.

    Args:
        table: comparison to show.
        command: command line that made it.
        heading: title of the page; None for what all runs share.
        gallery: what encodes the pictures; None to embed them.
    """
    runs = [(i, run) for i, row in enumerate(table.rows) for run in row.runs]
    shared = ", ".join(f"{key}={value}" for key, value in table.shared.items())
    gallery = gallery or Gallery(budget=BUDGET if len(runs) <= MANY else BUDGET // 2)
    gallery.begin()
    real = _real([run for _, run in runs], gallery)
    pictured = [run for _, run in runs] if len(runs) <= MANY else [row.runs[0] for row in table.rows if row.runs]
    pictures = dict(zip(map(id, pictured), pictures_of(pictured, gallery), strict=True))
    curves = [read_curves(run.path / METRICS) for _, run in runs]
    num_points = points_each(sum(map(len, curves)))
    usual = usual_config([run for _, run in runs])
    of_runs = [
        _run(number, i, run)
        | thinned(curves[number], num_points)
        | {"pictures": pictures.get(id(run), {}), "config": beside_usual(run, usual)}
        for number, (i, run) in enumerate(runs)
    ]
    notes = [*table.notes, *_sources(table), *signs(table)]
    numbers = {id(run): number for number, (_, run) in enumerate(runs)}
    return {
        "title": heading or shared or "Comparison",
        "made": time.strftime("%Y-%m-%d %H:%M"),
        "version": version("genlab"),
        "command": command,
        "columns": [_column(column, table) for column in table.columns],
        "rows": [_row(i, row, numbers) for i, row in enumerate(table.rows)],
        "runs": of_runs,
        "config": usual,
        "real": real,
        "against_settings": against_settings(runs),
        "metrics": in_order(dict.fromkeys(name for run in of_runs for name in run["curves"])),
        "decisions": sentences(said(table)),
        "notes": [*notes, *_left_out(gallery)],
    }


def _column(column: Column, table: Table) -> dict[str, Any]:
    cells = [row.cells.get(column.key) for row in table.rows]
    return {
        "key": column.key,
        "title": column.label,
        "kind": column.role,
        "unit": column.unit,
        "better": column.better,
        "description": column.description,
        "protocol": column.protocol,
        "constant": len(cells) > 1 and len({cell and cell.text for cell in cells}) == 1,
    }


def _row(number: int, row: Row, numbers: dict[int, int]) -> dict[str, Any]:
    return {
        "id": number,
        "label": row.label,
        "cells": {
            key: {"text": cell.text, "value": _finite(cell.value), "best": cell.best, "std": _finite(cell.std)}
            for key, cell in row.cells.items()
        },
        "runs": [numbers[id(run)] for run in row.runs],
        "published": dict(row.published.figures) if row.published else {},
        "status": {s: sum(run.status == s for run in row.runs) for s in {run.status for run in row.runs}},
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


def _left_out(gallery: Gallery) -> list[str]:
    if not gallery.left_out:
        return []
    what = "picture or film is" if gallery.left_out == 1 else "pictures and films are"
    return [f"{gallery.left_out} {what} not on the page, to keep it small; the runs' folders samples/ have them"]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _run(number: int, row: int, run: Run) -> dict[str, Any]:
    return {
        "id": number,
        "key": _key(run.path),
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


def _key(path: Path) -> str:
    """Give a run a short name that stays the same if the page is made anew, for links to what a page shows."""
    return hashlib.blake2b(str(path.resolve()).encode(errors="surrogateescape"), digest_size=4).hexdigest()


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


def _real(runs: Sequence[Run], gallery: Gallery) -> list[dict[str, str]]:
    """Find the real images that runs keep beside their samples, of each dataset once."""
    found: dict[str, str] = {}
    for run in runs:
        dataset = run.choices.get("dataset", "data")
        if dataset not in found and (address := gallery.picture(run.folder.samples / "real.npy", SMALL)) is not None:
            found[dataset] = address
    return [{"dataset": dataset, "src": src} for dataset, src in found.items()]
