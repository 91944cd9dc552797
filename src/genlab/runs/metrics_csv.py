"""``metrics.csv``: one row for every time something was logged, the x-axis in the column ``images_seen``."""

import csv
import io
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from genlab.files import write_atomically


class MetricsCSV(Logger):
    """Appends to one file; a new column rewrites it atomically. An existing file is continued, not replaced.

    Args:
        path: of the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self.columns: list[str] = []
        if self.path.is_file():
            with self.path.open(newline="") as file:
                self.columns = next(csv.reader(file), [])

    def cut(self, rows: int) -> None:
        """Keep the first rows only: what was logged after the checkpoint that a run is resumed from comes again."""
        if self.path.is_file():
            with self.path.open(newline="") as file:
                kept = list(csv.DictReader(file))[:rows]
            self._write(kept)

    def _write(self, rows: list[dict[str, Any]]) -> None:
        text = io.StringIO()
        writer = csv.DictWriter(text, self.columns)
        writer.writeheader()
        writer.writerows(rows)
        write_atomically(self.path, text.getvalue())

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The run folder has the config."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        new = [name for name in metrics if name not in self.columns]
        if new:
            rows: list[dict[str, Any]] = []
            if self.columns:
                with self.path.open(newline="") as file:
                    rows = list(csv.DictReader(file))
            self.columns = sorted([*self.columns, *new], key=lambda name: (name != "images_seen", name))
            self._write([*rows, metrics])
        else:
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self.columns).writerow(metrics)
