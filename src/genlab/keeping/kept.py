"""The runs in some folders, whatever their state, with the room that they take."""

import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.keeping.disk import Room, room_of
from genlab.runs.config import read_config
from genlab.runs.folder import CONFIG, METRICS, REMOVED, STATUS, SUMMARY, RunFolder, find_runs
from genlab.runs.lock import is_at_work
from genlab.runs.rows import last_images_seen

STATES = ("done", "running", "interrupted", "failed", "cut off", "damaged", "unknown")


@dataclass(frozen=True)
class Kept:
    """A run on the disk.

    Attributes:
        folder: folder of the run.
        status: one of :data:`STATES`; ``cut off`` if its process is gone, ``damaged`` if its status or its config
            cannot be read.
        model: choice of the model, such as ``vae/vae``; None if the config does not say it.
        dataset: choice of the data set.
        images_seen: number of training images seen.
        age: seconds since the run ended, or since it last wrote if it has not.
        reason: reason of a failure or of the damage.
        is_known: whether the config is that of a run of genlab: it names the choices of a model and a data set.
        of_run: folder of the run whose codes or latents are its data; None if it is of none.
        room: its files.
        recorded: its ``status.json``, by which one sees later whether anybody has worked in it since.
    """

    folder: RunFolder
    status: str
    model: str | None = None
    dataset: str | None = None
    images_seen: int | None = None
    age: float = 0.0
    reason: str | None = None
    is_known: bool = False
    of_run: Path | None = None
    room: Room = field(default_factory=Room)
    recorded: bytes = b""

    @property
    def path(self) -> Path:
        return self.folder.path

    def as_row(self) -> dict[str, Any]:
        """Give the facts as plain values."""
        facts = {"folder": str(self.path), "status": self.status, "model": self.model, "dataset": self.dataset}
        numbers = {"images_seen": self.images_seen, "age_seconds": round(self.age), "bytes": self.room.size}
        return {**facts, **numbers, "reason": self.reason}


def kept_runs(paths: Iterable[str | Path]) -> Iterator[Kept]:
    """Find the runs in folders, each once.

    Args:
        paths: folders of runs, or that contain runs. Links to folders within them are not followed.

    Raises:
        InputError: if one of them is not there.
    """
    seen = set[Path]()
    for path in paths:
        if not Path(path).is_dir():
            raise InputError(f"{path}: there is no such folder")
        for folder in find_runs([path]):
            where = folder.path.resolve()
            if where not in seen and is_run(folder.path):
                seen.add(where)
                yield read(folder)


def is_run(path: Path) -> bool:
    """Tell whether a folder has the two files that every run has."""
    return (path / CONFIG).is_file() and (path / STATUS).is_file()


def leftovers(paths: Iterable[str | Path]) -> list[Path]:
    """Find what a removal that was cut off has left, in folders and in the runs in them."""
    found = set[Path]()
    for path in paths:
        waiting = [Path(path)]
        while waiting:
            here = waiting.pop()
            try:
                inside = [one for one in here.iterdir() if one.is_dir() and not one.is_symlink()]
            except OSError:
                continue
            found |= {one for one in inside if one.name.startswith(REMOVED)}
            if not (here / CONFIG).is_file():  # within a run, such a folder lies beside its config
                waiting += [one for one in inside if not one.name.startswith(REMOVED)]
    return sorted(found)


def read(folder: RunFolder) -> Kept:
    """Read what there is to say of a run; files that cannot be read make it ``damaged``.

    Args:
        folder: folder of the run.
    """
    damage, recorded = list[str](), record_of(folder)

    def content(name: str) -> Mapping[str, Any]:
        try:
            return read_config(folder) if name == CONFIG else folder.read_json(name)
        except (InputError, OSError) as error:
            damage.append(str(error).replace(f"{folder.path}/", ""))
            return {}

    config, status, summary = content(CONFIG), content(STATUS), content(SUMMARY)
    choices = config.get("choices")
    choices = choices if isinstance(choices, Mapping) else {}
    of_run = config["dataset"].get("run") if isinstance(config.get("dataset"), Mapping) else None
    seen = summary.get("images_seen")
    return Kept(
        folder,
        "damaged" if damage else _state(folder, status),
        model=_choice(choices.get("model")),
        dataset=_choice(choices.get("dataset")),
        images_seen=seen if isinstance(seen, int) else last_images_seen(folder),
        age=max(0.0, time.time() - _last_time(folder, status)),
        reason="; ".join(damage) or (str(status["reason"]) if status.get("reason") else None),
        is_known={"model", "dataset"} <= choices.keys(),
        of_run=Path(of_run) if isinstance(of_run, str) else None,
        room=room_of(folder.path),
        recorded=recorded,
    )


def _choice(value: Any) -> str | None:
    """Give a choice; None if the config does not say it, as that of a job that was refused in earlier versions."""
    return None if value is None or str(value).startswith("${") else str(value)


def record_of(folder: RunFolder) -> bytes:
    """Read ``status.json``, which every process that works in a run writes; empty if it cannot be read."""
    try:
        return (folder.path / STATUS).read_bytes()
    except OSError:
        return b""


def _state(folder: RunFolder, status: Mapping[str, Any]) -> str:
    state = str(status.get("status"))
    if state == "running" and is_at_work(folder.path, status) is False:
        return "cut off"
    return state if state in STATES else "unknown"


def _last_time(folder: RunFolder, status: Mapping[str, Any]) -> float:
    """Give the time at which a run ended; if it does not say it, that at which it last wrote."""
    try:
        return datetime.strptime(str(status.get("ended")), "%Y-%m-%dT%H:%M:%S%z").timestamp()
    except (ValueError, OverflowError):
        written = (folder.path / name for name in (STATUS, METRICS, CONFIG))
        return max((path.stat().st_mtime for path in written if path.is_file()), default=time.time())
