"""What a run folder has of a training: the figures of ``metrics.csv``, and the pictures of ``samples/``."""

import csv
from collections.abc import Iterator
from pathlib import Path

from genlab.runs.folder import METRICS

Row = tuple[int, dict[str, float], dict[str, Path]]


def rows_after(folder: Path, last: int) -> Iterator[Row]:
    """Give the figures and pictures of a run folder that were logged after a given number of images seen.

    Args:
        folder: folder of the run.
        last: number of images seen; -1 for all rows.

    Yields:
        The number of images seen, the figures logged then by name, and the files of the pictures drawn then by name.
    """
    path = folder / METRICS
    if not path.is_file():
        return
    with path.open(newline="", encoding="utf-8") as file:
        rows = [
            {name: float(text) for name, text in row.items() if text and name != "seconds"}
            for row in csv.DictReader(file)
        ]
    drawn: dict[int, dict[str, Path]] = {}
    for picture in sorted((folder / "samples").glob("*.png")):
        name, _, digits = picture.stem.rpartition("-")
        if digits.isdigit():
            drawn.setdefault(int(digits), {})[name or "samples"] = picture
    for row in rows:
        seen = int(row["images_seen"])
        if seen > last:
            yield seen, row, drawn.pop(seen, {})
