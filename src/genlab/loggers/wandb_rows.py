"""Find which rows of a resumed run W&B has already.

W&B completes a row only when the next one begins, and flushes its file only now and then. A killed process therefore
loses some rows that the checkpoint and ``metrics.csv`` have. Other rows were written after the checkpoint, and the
resumed run logs them a second time.
"""

import json
import subprocess
import sys
from pathlib import Path

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
