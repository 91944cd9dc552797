"""Removing runs, or their checkpoints, so that nothing else goes and an interruption leaves no half run.

What goes is first renamed to a hidden name, which nothing takes for a run, and then removed. If that is cut off, the
next removal finds the rest by its name.
"""

import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from genlab.errors import InputError
from genlab.keeping.asked import Asked
from genlab.keeping.disk import Room, room_of, together
from genlab.keeping.kept import Kept, is_run, record_of
from genlab.runs.folder import CONFIG, EXPORTED, REMOVED
from genlab.runs.lock import held, is_held

What = Literal["runs", "checkpoints"]


@dataclass
class Plan:
    """Plan of a removal: what it would remove.

    Attributes:
        what: whole runs, or their checkpoints alone.
        runs: runs of which something goes.
        rooms: for each of them, the files that go.
        left: folders that an earlier removal has left.
        spared: runs that were asked for and stay, with the reason.
    """

    what: What
    runs: list[Kept] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)
    left: list[Path] = field(default_factory=list)
    spared: list[tuple[Kept, str]] = field(default_factory=list)

    @property
    def freed(self) -> int:
        """Bytes that will be free."""
        return together([*self.rooms, *map(room_of, self.left)]).freed


def planned(found: Sequence[Kept], asked: Asked, what: What, left: Sequence[Path] = ()) -> Plan:
    """Choose what goes; nothing is removed yet.

    Args:
        found: all runs of the folders, also those that are not asked for: a run that they need stays.
        asked: what is asked of the runs.
        what: whole runs, or their checkpoints alone.
        left: folders that an earlier removal has left.
    """
    plan, going = Plan(what, left=list(left)), list[tuple[Kept, Room]]()
    for run in filter(asked.fits, found):
        target = _target(run, what)
        if what == "checkpoints" and target.is_dir() and not target.is_symlink() and not any(target.iterdir()):
            continue
        if (reason := _reason_to_stay(run, target)) is not None:
            plan.spared.append((run, reason))
        elif target.is_dir():
            going.append((run, run.room if what == "runs" else room_of(target)))
    while True:  # a run that stays for another one's sake may have its data from a third
        gone = {run.path for run, _ in going} if what == "runs" else set()
        needing = {run.of_run.resolve(): run.path for run in found if run.of_run is not None and run.path not in gone}
        needed = [(run, needing[where]) for run, _ in going if (where := run.path.resolve()) in needing]
        if not needed:
            break
        plan.spared += [(run, f"{by} has its codes or latents as data") for run, by in needed]
        going = [(run, room) for run, room in going if run not in [one for one, _ in needed]]
    plan.runs, plan.rooms = [run for run, _ in going], [room for _, room in going]
    return plan


def _target(run: Kept, what: What) -> Path:
    return run.path if what == "runs" else run.folder.checkpoints


def _reason_to_stay(run: Kept, target: Path) -> str | None:
    if run.path.is_symlink() or target.is_symlink():
        return "it is a link to a folder elsewhere"
    if not run.is_known:
        return "its config names no model and no data set, so it may be something else: remove it by hand"
    if run.status == "running" or is_held(run.path):
        return "a process works in it"
    if is_held(run.path.parent):
        return "its sweep is running"
    if (other := _run_within(run.path)) is not None:
        return f"there is another run in it: {other}"
    return None


def _run_within(path: Path) -> Path | None:
    """Find a run within a run's folder, other than its export."""
    for folder, folders, _ in os.walk(path):
        folders[:] = [name for name in folders if name != "wandb"]
        here = Path(folder)
        if here != path and is_run(here) and not (here / EXPORTED).is_file():
            return here
    return None


@dataclass
class Done:
    """Outcome of a removal: what it has removed.

    Attributes:
        removed: folders that are gone.
        rooms: their files.
        failed: for each that is not, why.
    """

    removed: list[Path] = field(default_factory=list)
    rooms: list[Room] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def freed(self) -> int:
        """Bytes that are free now."""
        return together(self.rooms).freed


def carry_out(plan: Plan) -> Done:
    """Remove what was planned; a run that a process has begun to work in, or has worked in meanwhile, stays.

    Args:
        plan: what goes.
    """
    done = Done()
    for run, room in zip(plan.runs, plan.rooms, strict=True):
        target = _target(run, plan.what)
        with _noting(target, room, done):
            _remove(_renamed(run, target))
    for path in plan.left:
        with _noting(path, room_of(path), done):
            _remove(path)
    return done


@contextmanager
def _noting(path: Path, room: Room, done: Done) -> Iterator[None]:
    """Note whether a folder was removed inside the context, or why it was not."""
    try:
        yield
    except InputError as error:
        done.failed.append(str(error))
    except OSError as error:
        done.failed.append(f"{path} cannot be removed: {error.strerror or error}")
    else:
        done.removed.append(path)
        done.rooms.append(room)


def _renamed(run: Kept, target: Path) -> Path:
    """Give what goes a hidden name, while this process holds the run.

    Raises:
        InputError: if another process works in the run, or has done so since it was chosen.
        OSError: if the system refuses.
    """
    hidden = target.with_name(f"{REMOVED}{target.name[:100]}-{secrets.token_hex(4)}")
    with held(run.path):
        if record_of(run.folder) != run.recorded or target.is_symlink():
            raise InputError(f"{run.path} stays: it has changed since it was listed")
        os.rename(target, hidden)
        if target != run.path:
            target.mkdir()  # as a run has it
    return hidden


def _remove(hidden: Path) -> None:
    """Remove a folder that has a hidden name; links in it are removed, and not what they lead to."""
    (hidden / CONFIG).unlink(missing_ok=True)  # first, so that no program takes the rest for a run
    shutil.rmtree(hidden)


def rows(plan: Plan) -> list[dict[str, object]]:
    """Give the runs of which something goes as plain values, with the bytes that go."""
    return [{**run.as_row(), "bytes": room.size} for run, room in zip(plan.runs, plan.rooms, strict=True)]


def spared_lines(spared: Iterable[tuple[Kept, str]]) -> list[str]:
    """Say of each run that stays why it does."""
    return [f"stays: {run.path}: {reason}" for run, reason in spared]
