"""The best values of validation figures so far."""

import csv
import math
from pathlib import Path

from genlab.metrics.catalogue import figure


def is_better(name: str, value: float, than: float | None) -> bool:
    """Tell whether the value of a validation figure is better than the best so far.

    Args:
        name: name of the figure; others than ``val/...`` are never better.
        value: new value.
        than: best value so far; None if there is none.
    """
    direction = figure(name).better
    if not name.startswith("val/") or direction is None or not math.isfinite(value):
        return False
    return than is None or (value < than if direction == "min" else value > than)


def best_so_far(path: Path) -> dict[str, float]:
    """Find the best validation values of a resumed run in ``metrics.csv``; W&B cannot be asked for them offline.

    Args:
        path: path of the file.
    """
    best: dict[str, float] = {}
    if path.is_file():
        with path.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for name, text in row.items():
                    if text and name.startswith("val/") and is_better(name, float(text), best.get(name)):
                        best[name] = float(text)
    return best
