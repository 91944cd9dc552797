"""Reading of runs that are still being written, again and again: only what has changed is read anew."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genlab.comparison.places import expanded
from genlab.comparison.runs import Run, read_run
from genlab.errors import InputError
from genlab.runs.folder import CONFIG, EVALUATION, METRICS, STATUS, SUMMARY, RunFolder, find_runs
from genlab.runs.lock import is_at_work

# Files and folders that change when a run has news; a folder changes when a file in it is replaced.
WATCHED = (CONFIG, STATUS, SUMMARY, EVALUATION, METRICS, "samples")

Stamp = tuple[tuple[int, int] | None, ...]


class Reader:
    """A reader of the runs in some places.

    Args:
        places: folders of runs, folders that contain runs, or glob patterns; they need not exist yet.
    """

    def __init__(self, places: Sequence[str]) -> None:
        self._places = [*places]
        self._read: dict[Path, tuple[Stamp, Run]] = {}

    def stamp(self) -> dict[Path, tuple[Any, ...]]:
        """Give what tells whether runs have changed since another call, for every run, in order.

        Raises:
            InputError: if there are no runs, or a place does not exist (now).
        """
        folders = [*find_runs(expanded(self._places))]
        if not folders:
            raise InputError(f"there are no runs in {', '.join(map(str, self._places))}")
        return {folder.path: (*_stamp(folder.path), self._is_at_work(folder)) for folder in folders}

    def _is_at_work(self, folder: RunFolder) -> bool:
        """Tell whether a run that was running still is; a process that was killed leaves no other trace."""
        before = self._read.get(folder.path)
        if before is None or before[1].status != "running":
            return False
        try:
            return is_at_work(folder.path, folder.read_json(STATUS)) is not False
        except InputError:
            return False

    def runs(self) -> list[Run]:
        """Read the runs; those whose files have not changed are not read again.

        Raises:
            InputError: if there are no runs, or a place does not exist (now).
        """
        found = {}
        for folder in find_runs(expanded(self._places)):
            stamp, before = _stamp(folder.path), self._read.get(folder.path)
            unchanged = before is not None and before[0] == stamp and before[1].status != "running"
            found[folder.path] = before if before is not None and unchanged else (stamp, read_run(folder))
        self._read = found
        if not found:
            raise InputError(f"there are no runs in {', '.join(map(str, self._places))}")
        return [run for _, run in found.values()]


def _stamp(path: Path) -> Stamp:
    return tuple(_of_file(path / name) for name in WATCHED)


def _of_file(path: Path) -> tuple[int, int] | None:
    try:
        about = path.stat()
    except OSError:
        return None
    return about.st_mtime_ns, about.st_size
