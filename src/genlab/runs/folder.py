"""The folder that holds everything of a run. It is claimed atomically, and every file in it is replaced atomically."""

import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.machine.files import write_atomically, write_even_if_full
from genlab.runs.lock import HOLDER, LOCK

CONFIG, STATUS, SUMMARY, EVALUATION, METRICS = (
    "config.yaml",
    "status.json",
    "summary.json",
    "evaluation.json",
    "metrics.csv",
)
EXPORTED = "model.safetensors"  # weights of a folder that genlab export made of a run
REMOVED = ".genlab-removed-"  # beginning of the name of a folder that is being removed, or whose removal was cut off


class RunFolder:
    """The folder of one run, with its files.

    The files are ``config.yaml``, ``status.json``, ``summary.json``, ``evaluation.json``, ``metrics.csv`` and those of
    the folders ``checkpoints/`` and ``samples/``.

    Args:
        path: path of the folder, which may not exist yet.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def claim(cls, path: Path) -> "RunFolder":
        """Make the folder; if the path is taken, make one beside it, named ``<name>-2``, ``<name>-3`` and so on.

        Args:
            path: path of the folder to make.
        """
        path.parent.mkdir(parents=True, exist_ok=True)
        candidate, count = path, 1
        while True:
            try:
                candidate.mkdir()
                break
            except FileExistsError:
                count += 1
                candidate = path.with_name(f"{path.name}-{count}")
        made = cls(candidate)
        made.make()
        return made

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Open the folder of an existing run.

        Args:
            path: path of the folder.

        Raises:
            InputError: if there is no run folder at this path.
        """
        folder = cls(path)
        if not folder.path.is_dir():
            raise InputError(f"there is no run folder {path}")
        if not (folder.path / CONFIG).is_file():
            inside = [str(found.path) for found in find_runs([path])][:3]
            hint = f"; it holds the runs {', '.join(inside)}" if inside else ""
            raise InputError(f"{path} is not a run folder: it has no {CONFIG}{hint}")
        return folder

    def make(self) -> None:
        """Make the folder and those inside, as far as they are missing."""
        for folder in (self.checkpoints, self.samples):
            folder.mkdir(parents=True, exist_ok=True)

    def clear(self) -> None:
        """Remove everything of a run that never began; the folder itself and what locks it stay."""
        for path in self.path.iterdir():
            if path.name in (LOCK, HOLDER):
                continue
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def clear_halves(self) -> None:
        """Remove the partly written files that a kill left; only the process that writes to this folder may call it."""
        for folder in (self.path, self.checkpoints, self.samples):
            for path in folder.glob(".*"):
                if path.name not in (LOCK, HOLDER) and (path.is_file() or path.is_symlink()):
                    path.unlink(missing_ok=True)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        write_atomically(self.path / name, json.dumps(content, indent=2, default=str) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """Read a JSON file of the folder; a missing file gives an empty dict.

        Args:
            name: name of the file.

        Raises:
            InputError: if the file is damaged.
        """
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error})") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} is damaged (not an object)")
        return content

    def set_status(self, status: str, **details: Any) -> None:
        """Write the run's status, and keep details that were written before, such as the time of the start.

        Args:
            status: ``running``, ``done``, ``interrupted`` or ``failed``.
            **details: further values for ``status.json``, such as the reason of a failure.
        """
        before = self.read_json(STATUS)
        before.pop("reason", None)
        if status == "running":
            before.setdefault("started", time.strftime("%Y-%m-%dT%H:%M:%S%z"))
            before.pop("ended", None)
            details = {"pid": os.getpid(), "host": socket.gethostname(), **details}
        else:
            details = {"ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **details}
        content = {**before, "status": status, **details}
        if status == "running":
            self.write_json(STATUS, content)
        else:  # a full disk has no room for a new file beside the old one, and still takes what fits into the old one's
            write_even_if_full(self.path / STATUS, json.dumps(content, indent=2, default=str) + "\n")


def find_runs(paths: Iterable[str | Path]) -> Iterator[RunFolder]:
    """Find every run folder at or below some paths, ordered by name, with job 10 after job 9.

    Args:
        paths: paths to search; a path may itself be a run folder.
    """
    for path in paths:
        inside = []
        for folder, folders, files in os.walk(path):
            if CONFIG in files:
                inside.append(Path(folder))
                folders.clear()  # runs are not nested, but W&B writes a config.yaml of its own inside a run
            folders[:] = [name for name in folders if not name.startswith(REMOVED)]
        yield from (RunFolder(folder) for folder in sorted(inside, key=_in_order))


def _in_order(path: Path) -> list[list[tuple[bool, int, str]]]:
    """Give a sort key that orders numbers within names by their value."""
    return [
        [(word.isdigit(), int(word) if word.isdigit() else 0, word) for word in re.split(r"(\d+)", part)]
        for part in path.parts
    ]
