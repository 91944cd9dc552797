"""Find which rows of a resumed run W&B has already, and which it lacks.

W&B completes a row only when the next one begins, and flushes its file only now and then. A killed process therefore
loses some rows that the checkpoint and ``metrics.csv`` have. Other rows were written after the checkpoint, and the
resumed run logs them a second time.
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

Rows = dict[int, set[str]]  # names of the figures and pictures of each row, by W&B's step


def written_rows(folder: Path) -> Rows:
    """List the rows in the W&B files of a run folder; empty if there are none or W&B's reader cannot read them.

    Args:
        folder: folder of the run.
    """
    rows: Rows = {}
    for file in sorted(folder.glob("wandb/*run-*/run-*.wandb")):
        command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
        for line in subprocess.run(command, capture_output=True, text=True, encoding="utf-8").stdout.splitlines():
            try:
                record = json.loads(line) if line.startswith("{") else {}
                if record.get("type") == "history":
                    row = record["history"]["item"]
                    rows.setdefault(int(row["_step"]), set()).update(name.removesuffix("._type") for name in row)
            except (ValueError, KeyError):  # a line of a damaged file
                continue
    return rows


def lacking(folder: Path, last: int) -> Iterator[tuple[int, dict[str, Any]]]:
    """Give the figures and pictures of the run folder that were logged after a given number of images seen.

    Args:
        folder: folder of the run.
        last: number of images seen up to which W&B has everything.

    Yields:
        The number of images seen, and the figures (floats) and pictures (images) logged then, by name.
    """
    path = folder / METRICS
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
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
