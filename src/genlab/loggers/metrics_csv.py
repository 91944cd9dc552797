"""``metrics.csv``: one row each time something is logged, with ``images_seen`` and ``seconds`` as the x axes."""

import csv
import io
import time
from argparse import Namespace
from pathlib import Path
from typing import Any

from pytorch_lightning.loggers.logger import Logger
from pytorch_lightning.utilities.rank_zero import rank_zero_only

from genlab.machine.files import naming, write_atomically

FIRST = ("images_seen", "seconds")


class MetricsCSV(Logger):
    """A logger that appends rows to one CSV file, and continues the file if it exists.

    A new column rewrites the file atomically. The column ``seconds`` counts the time that the run was training,
    without pauses between its processes.

    Args:
        path: path of the file.
    """

    def __init__(self, path: str) -> None:
        super().__init__()
        self.path = Path(path)
        self.columns: list[str] = []
        before = 0.0
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
                reader = csv.DictReader(file)
                before = max((float(row["seconds"]) for row in reader if row.get("seconds")), default=0.0)
                self.columns = [*(reader.fieldnames or [])]
        self._started = time.monotonic() - before

    def cut(self, rows: int) -> None:
        """Keep only the first rows: a resumed run logs again what came after its checkpoint.

        Args:
            rows: number of rows to keep.
        """
        if self.path.is_file():
            with self.path.open(newline="", encoding="utf-8") as file:
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
        """Do nothing: the run folder has the config."""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        metrics = {"seconds": round(time.monotonic() - self._started, 2), **metrics}
        new = [name for name in metrics if name not in self.columns]
        if new:
            rows: list[dict[str, Any]] = []
            if self.columns:
                with self.path.open(newline="", encoding="utf-8") as file:
                    rows = list(csv.DictReader(file))
            self.columns = sorted([*self.columns, *new], key=lambda name: (name not in FIRST, name))
            self._write([*rows, metrics])
        else:
            with naming(self.path), self.path.open("a", newline="", encoding="utf-8") as file:
                csv.DictWriter(file, self.columns).writerow(metrics)
