"""The run folder: the unit of everything. It is claimed atomically and every file in it is replaced atomically."""

import json
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.machine.files import write_atomically

CONFIG, STATUS, SUMMARY, EVALUATION, METRICS = (
    "config.yaml",
    "status.json",
    "summary.json",
    "evaluation.json",
    "metrics.csv",
)


class RunFolder:
    """``config.yaml status.json summary.json metrics.csv checkpoints/ samples/`` of one run."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)

    @classmethod
    def claim(cls, path: Path) -> "RunFolder":
        """Make the folder; of two who ask for one path, the later gets a name of its own beside it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        candidate, count = path, 1
        while True:
            try:
                candidate.mkdir()
                break
            except FileExistsError:
                count += 1
                candidate = path.with_name(f"{path.name}-{count}")
        for name in ("checkpoints", "samples"):
            (candidate / name).mkdir()
        return cls(candidate)

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """An existing run.

        Raises:
            InputError: where there is none.
        """
        folder = cls(path)
        if not folder.path.is_dir():
            raise InputError(f"there is no run folder {path}")
        if not (folder.path / CONFIG).is_file():
            inside = [str(found.path) for found in find_runs([path])][:3]
            hint = f"; it holds the runs {', '.join(inside)}" if inside else ""
            raise InputError(f"{path} is not a run folder: it has no {CONFIG}{hint}")
        return folder

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    def clear_halves(self) -> None:
        """Take away the halves that a kill left beside the whole files; for the one process that writes here."""
        for folder in (self.path, self.checkpoints, self.samples):
            for path in folder.glob(".*"):
                if path.is_file() or path.is_symlink():
                    path.unlink(missing_ok=True)

    def write_json(self, name: str, content: dict[str, Any]) -> None:
        write_atomically(self.path / name, json.dumps(content, indent=2, default=str) + "\n")

    def read_json(self, name: str) -> dict[str, Any]:
        """A file's content; empty where it is not there.

        Raises:
            InputError: where it is damaged.
        """
        path = self.path / name
        if not path.is_file():
            return {}
        try:
            content = json.loads(path.read_text())
        except ValueError as error:
            raise InputError(f"{path} is damaged ({error})") from error
        if not isinstance(content, dict):
            raise InputError(f"{path} is damaged (not an object)")
        return content

    def set_status(self, status: str, **details: Any) -> None:
        """``running``, ``done``, ``interrupted`` or ``failed``; keeps what was said before, such as the start."""
        before = self.read_json(STATUS)
        before.pop("reason", None)
        if status == "running":
            before.setdefault("started", time.strftime("%Y-%m-%dT%H:%M:%S%z"))
            before.pop("ended", None)
            details = {"pid": os.getpid(), "host": socket.gethostname(), **details}
        else:
            details = {"ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"), **details}
        self.write_json(STATUS, {**before, "status": status, **details})


def is_at_work(status: Mapping[str, Any]) -> bool | None:
    """Whether the process that a run's status names is there; ``None`` where it is another machine's to know."""
    if status.get("status") != "running":
        return False
    if status.get("host") != socket.gethostname() or not isinstance(status.get("pid"), int):
        return None
    try:
        os.kill(status["pid"], 0)
    except (ProcessLookupError, PermissionError):
        return False
    return True


def find_runs(paths: Iterable[str | Path]) -> Iterator[RunFolder]:
    """Every run folder at or below some paths, in the order of their names, job 10 after job 9."""
    for path in paths:
        inside = []
        for folder, folders, files in os.walk(path):
            if CONFIG in files:
                inside.append(Path(folder))
                folders.clear()  # within a run there is none, but W&B has a config.yaml of its own there
        yield from (RunFolder(folder) for folder in sorted(inside, key=_in_order))


def _in_order(path: Path) -> list[list[tuple[bool, int, str]]]:
    """Numbers within names as numbers."""
    return [
        [(word.isdigit(), int(word) if word.isdigit() else 0, word) for word in re.split(r"(\d+)", part)]
        for part in path.parts
    ]
