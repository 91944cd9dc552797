"""What a program that started a training is told of it: from the run folders, in whatever state they are."""

import shlex
import sys
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.machine.outcome import told
from genlab.runs.folder import CONFIG, STATUS, SUMMARY, RunFolder, find_runs
from genlab.runs.records import read_record


def of_run(path: str | Path) -> dict[str, Any]:
    """Give the facts about a run: its folder, status and figures; empty if there is no such folder.

    Args:
        path: folder of the run.
    """
    folder = RunFolder(path)
    if not (folder.path / CONFIG).is_file():
        return {}
    try:
        status, summary = read_record(folder, STATUS), read_record(folder, SUMMARY)
    except InputError as error:
        return {"run": str(path), "status": "damaged", "reason": str(error)}
    return {
        "run": str(path),
        "status": status.get("status", "unknown"),
        **({"reason": status["reason"]} if status.get("reason") else {}),
        **{key: summary[key] for key in ("images_seen", "wall_seconds", "monitor") if key in summary},
        "figures": summary.get("metrics", {}),
    }


def of_sweep(path: Path) -> dict[str, Any]:
    """Give the facts about a sweep: its folder, and those of each of its runs.

    Args:
        path: folder of the sweep.
    """
    return {"sweep": str(path), "runs": [of_run(run.path) for run in find_runs([path])]}


def say_how_to_go_on() -> None:
    """Print the command that continues the run that this process was asked to stop, if it has a checkpoint."""
    run = told().get("run")
    if run and (RunFolder(run).checkpoints / "last.ckpt").is_file():
        again = shlex.join(["genlab", "train", f"resume={run}"])
        print(f"genlab: the run was stopped, and is saved; to go on: {again}", file=sys.stderr)
