"""Find the runs that a command line names: by their folders, folders that contain runs, or patterns."""

from collections.abc import Iterable
from glob import glob
from pathlib import Path

from genlab.runs.folder import CONFIG, find_runs


def given_runs(paths: Iterable[str]) -> list[str]:
    """Replace patterns that the shell did not expand, and folders that contain runs, by those runs.

    Args:
        paths: folders of runs, folders that contain runs, checkpoint files or patterns; others are given back as they
            are, and refused when they are opened.
    """
    found: list[str] = []
    for path in paths:
        matches = [path] if Path(path).exists() else sorted(glob(path, recursive=True)) or [path]
        for match in matches:
            folder = Path(match)
            inside = [] if not folder.is_dir() or (folder / CONFIG).exists() else list(find_runs([folder]))
            found += [str(run.path) for run in inside] or [match]
    return list(dict.fromkeys(found))
