"""Complete folders of runs, level by level; other folders are left out, unless there is no other one."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

DEPTH, SECONDS = 3, 0.15  # how deep, and how long in all, to look for a run inside a folder


def run_folders(start: str, sweeps: bool = False) -> list[str]:
    """Complete the path of a run, or of a folder that contains runs.

    Args:
        start: beginning of the path.
        sweeps: whether the path of a sweep is wanted: one that has ``multirun.yaml``, or runs.

    Returns:
        Paths: those of runs, or of sweeps, with a space at their end, others with a slash.
    """
    place, _, name = start.rpartition("/")
    prefix = start[: len(start) - len(name)]
    folders = [f for f in _folders(Path(place or ("/" if prefix else ".")).expanduser()) if f.name.startswith(name)]
    folders = [f for f in folders if name.startswith(".") or not f.name.startswith(".")]
    until = time.monotonic() + SECONDS
    leading = [folder for folder in folders if _leads(folder, until)]
    found = []
    for folder in sorted(leading or folders, key=lambda folder: folder.name):
        is_goal = (folder / "multirun.yaml").is_file() if sweeps else is_run(folder)
        found.append(prefix + folder.name + (" " if is_goal else "/"))
    return found


def is_run(folder: Path) -> bool:
    """Tell whether a folder is that of a run."""
    return (folder / "config.yaml").is_file() and (folder / "status.json").is_file()


def _folders(folder: Path) -> Iterator[Path]:
    try:
        with os.scandir(folder) as entries:
            yield from [Path(entry.path) for entry in entries if entry.is_dir()]
    except OSError:
        return


def _leads(folder: Path, until: float, depth: int = DEPTH) -> bool:
    """Tell whether a folder is, or contains, a run; yes if there is no time left to look."""
    if time.monotonic() > until or is_run(folder):
        return True
    inside = (f for f in _folders(folder) if not f.name.startswith(".") and f.name != "node_modules")
    return depth > 0 and any(_leads(one, until, depth - 1) for one in inside)
