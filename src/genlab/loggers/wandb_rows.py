"""What W&B has of a run that goes on, and what it lacks.

W&B writes a row when the next one begins, and its file now and then: a killed process takes some rows with it that the
checkpoint and ``metrics.csv`` know of. Other rows it has already, and they come again after the checkpoint.
"""

import csv
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from PIL import Image

from genlab.runs.folder import METRICS

Rows = dict[int, set[str]]  # the names of the figures and pictures of every row, by W&B's step


def written_rows(folder: Path) -> Rows:
    """Of a run folder's W&B files, by W&B's own reader; empty where there are none or it cannot read them."""
    rows: Rows = {}
    for file in sorted(folder.glob("wandb/*run-*/run-*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        for line in subprocess.run(command, capture_output=True, text=True).stdout.splitlines():
            record = json.loads(line) if line.startswith("{") else {}
            if record.get("type") == "history":
                row = record["history"]["item"]
                rows.setdefault(int(row["_step"]), set()).update(name.removesuffix("._type") for name in row)
    return rows


def lacking(folder: Path, last: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Images seen, and the figures and pictures then, of all that the run folder has after some images seen."""
    path = folder / METRICS
    if not path.is_file():
        return
    with path.open(newline="") as file:
        rows = [
            {name: float(text) for name, text in row.items() if text and name != "seconds"}
            for row in csv.DictReader(file)
        ]
    shown: dict[int, dict[str, Any]] = {}
    for picture in sorted((folder / "samples").glob("*.png")):
        name, _, digits = picture.stem.rpartition("-")
        if digits.isdigit():
            shown.setdefault(int(digits), {})[name or "samples"] = picture
    for row in rows:
        seen = int(row["images_seen"])
        if seen > last:
            yield seen, {**row, **{name: Image.open(at) for name, at in shown.pop(seen, {}).items()}}
