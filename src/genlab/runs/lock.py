"""The right to write in the folder of a run or of a sweep, which one process at a time has.

Two things tell that a folder is worked in. A lock of the operating system (flock) on ``.lock`` tells it on one machine:
it ends with its holder, however that ends. ``.holder`` names the holder, and a thread refreshes its time of change: a
machine that shares the disk, but not the locks, sees by it that the holder lives. Both files are gone when the folder
is free; after a kill they stay, and mean nothing any more.

The lock is flock's and not POSIX's (``fcntl.lockf``), which a process loses as soon as it closes any descriptor of the
file, as copying its own folder would do. flock's price is that forks share it: every fork closes its copy, so that no
worker that survives its parent keeps the folder.
"""

import errno
import json
import os
import secrets
import socket
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from genlab.errors import InputError

try:
    import fcntl
except ImportError:  # not on Windows: there, the holder's signs of life decide alone
    fcntl = None  # type: ignore[assignment]

LOCK, HOLDER = ".lock", ".holder"
BEAT = 30.0  # seconds between two signs of life
STALE = 180.0  # seconds without one after which the holder on another machine counts as gone
PATIENCE = (
    1.0  # seconds to wait for a lock: a killed process may need a moment to die, and a look holds it for a moment
)

_NO_LOCKS = {errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP, errno.EINVAL}  # the file system has none
_opening = threading.Lock()  # held while a descriptor is opened and listed, so that no fork has one that is not listed
_descriptors: set[int] = set()


def _after_fork_in_child() -> None:
    for descriptor in _descriptors:
        with suppress(OSError):
            os.close(descriptor)
    _descriptors.clear()
    _opening.release()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_opening.acquire, after_in_parent=_opening.release, after_in_child=_after_fork_in_child)


def _machine() -> str:
    """Name the running kernel: containers of one machine have many host names, but their locks are the kernel's."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return socket.gethostname()


def _process_start(pid: int) -> int | None:
    """Read when a process of this machine started, in the kernel's ticks; None if it has ended or cannot be known."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
        return (
            None if fields[0] in "ZX" else int(fields[19])
        )  # a killed process stays as a zombie until it is waited for
    except (OSError, ValueError, IndexError):
        return None


@dataclass(frozen=True)
class Holder:
    """The process that works in a folder, as ``.holder`` names it.

    Attributes:
        host: name of its machine, for people.
        machine: what tells its machine from all others.
        pid: number of the process.
        process_start: when the process started, in ticks of its machine; None if unknown.
        since: when it took the folder, for people.
        token: random name of this hold.
        slurm_job: number of the SLURM job that it is of, and how often that was started again; empty if it is of none.
    """

    host: str
    machine: str
    pid: int
    process_start: int | None
    since: str
    token: str
    slurm_job: str = ""

    @classmethod
    def this_process(cls) -> "Holder":
        """Describe this process."""
        now = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        pid, job, start = os.getpid(), os.environ.get("SLURM_JOB_ID"), os.environ.get("SLURM_RESTART_COUNT", "0")
        token = secrets.token_hex(8)
        return cls(
            socket.gethostname(), _machine(), pid, _process_start(pid), now, token, f"{job} {start}" if job else ""
        )

    @property
    def is_here(self) -> bool:
        return self.machine == _machine()

    def is_before(self, other: "Holder") -> bool:
        """Tell whether the other is of the same SLURM job, started again, which SLURM does when this one is gone."""
        job, _, start = self.slurm_job.partition(" ")
        other_job, _, other_start = other.slurm_job.partition(" ")
        return (
            bool(job)
            and job == other_job
            and start.isdigit()
            and other_start.isdigit()
            and int(start) < int(other_start)
        )

    def is_running(self) -> bool:
        """Tell whether the process is among those of this machine; one that has its number now is another one."""
        return self.process_start is not None and _process_start(self.pid) == self.process_start


def _read(path: Path) -> Holder | None:
    """Read ``.holder``; a file that says nothing readable gives an unknown holder on an unknown machine."""
    try:
        return Holder(**json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError):
        return Holder("an unknown machine", "", 0, None, "", "")


def _flock(descriptor: int, shared: bool = False) -> bool | None:
    """Try to lock an open file; None if this file system has no locks."""
    if fcntl is None:
        return None
    try:
        fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return None
        if error.errno in (errno.EACCES, errno.EAGAIN, errno.EWOULDBLOCK):
            return False
        raise
    return True


def _let_go(descriptor: int) -> None:
    """Unlock and close; unlocking first frees the lock even if a fork of this moment has a copy of the descriptor."""
    if fcntl is not None:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_UN)
    _descriptors.discard(descriptor)
    os.close(descriptor)


def _open_and_lock(path: Path) -> tuple[int, bool | None]:
    """Open a lock file, made if it is missing, and try to lock it for a moment.

    Returns:
        The descriptor, and whether it is locked; None if this file system has no locks.
    """
    until = time.monotonic() + PATIENCE
    while True:
        with _opening:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
            _descriptors.add(descriptor)
        locked = _flock(descriptor)
        if locked is False and time.monotonic() > until:
            return descriptor, False
        if locked is not False and _is_still(descriptor, path):
            return descriptor, locked
        _let_go(descriptor)  # held, or its holder has just removed it
        time.sleep(0.02)


def _is_still(descriptor: int, path: Path) -> bool:
    """Tell whether an open file is still the one at its path."""
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


@contextmanager
def held(folder: Path, force: bool = False) -> Iterator[None]:
    """Hold a folder while this process works in it, so that no other begins to.

    Args:
        folder: existing folder of a run or of a sweep.
        force: whether to take the folder though a process on another machine may still work in it; that process
            notices and ends.

    Raises:
        InputError: if another process works in the folder; the message says which, and what to do.
    """
    try:
        descriptor, locked = _open_and_lock(folder / LOCK)
    except OSError as error:
        raise InputError(f"{folder} cannot be written in: {error.strerror}") from error
    mine, stop = Holder.this_process(), threading.Event()
    thread = threading.Thread(target=_show_life, args=(folder, mine, stop), name="genlab-signs-of-life", daemon=True)
    taken = False
    try:
        gone = _check_free(folder, mine, descriptor, locked, force)
        _sign(folder, mine, gone)
        taken = True
        thread.start()
        yield
    finally:
        if os.getpid() == mine.pid:  # a fork that leaves by an exception holds nothing
            stop.set()
            if thread.is_alive():
                thread.join(BEAT)  # so that it does not sign once more
            with suppress(OSError):  # the folder may be gone, or may not be written in any more
                if taken and (signed := _read(folder / HOLDER)) is not None and signed.token == mine.token:
                    (folder / HOLDER).unlink()
                if locked is not False and not (folder / HOLDER).exists():
                    (folder / LOCK).unlink()
            _let_go(descriptor)


def _check_free(folder: Path, mine: Holder, descriptor: int, locked: bool | None, force: bool) -> Holder | None:
    """Raise InputError if the folder has a living holder, as far as can be known here; give the one that is gone."""
    holder = _read(folder / HOLDER)
    if holder is None:
        if locked is False:
            raise InputError(f"{folder} is being trained by another process, which has just begun: wait for its end")
        return None
    if holder.is_here:
        # Somebody may have removed the lock file, or there are no locks.
        runs_on = holder.is_running() and (locked is None or holder.pid != os.getpid())
        if locked is False or runs_on:
            raise InputError(
                f"{folder} is being trained by the process {holder.pid} of this machine since {holder.since}: wait for "
                f"its end, or stop it first (kill {holder.pid})"
            )
        return holder
    with suppress(OSError):
        os.utime(descriptor)  # the file server's clock, which also tells the time of the signs of life
    age = os.fstat(descriptor).st_mtime - _last_sign(folder)
    if not force and not holder.is_before(mine) and (locked is False or age < STALE):
        raise InputError(
            f"{folder} is being trained on {holder.host} by the process {holder.pid}, whose last sign of life is "
            f"{max(0.0, age):.0f} s old: wait for its end; if you know that it is gone, force=true goes on at once"
            + ("" if locked is False else f" ({STALE:.0f} s without a sign do so, too)")
        )
    return holder


def _last_sign(folder: Path) -> float:
    try:
        return (folder / HOLDER).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _sign(folder: Path, mine: Holder, gone: Holder | None = None) -> None:
    """Write ``.holder``, in place of that of a holder that is gone; of two machines that do so at once, one succeeds.

    Raises:
        InputError: if another machine was faster.
    """
    path, new, old = (folder / f"{HOLDER}{end}" for end in ("", f".{mine.token}", f".{mine.token}.old"))
    taken = InputError(f"{folder} has just been taken by another process: wait for its end")
    try:
        if gone is not None:
            with suppress(FileNotFoundError):
                os.replace(path, old)
            if (found := _read(old)) is not None and found.token != gone.token:
                with suppress(FileExistsError):  # put back what is not of the one that is gone
                    os.link(old, path)
                raise taken
        new.write_text(json.dumps(asdict(mine)) + "\n", encoding="utf-8")
        try:
            os.link(new, path)  # fails if it exists, on file servers too
        except FileExistsError:
            raise taken from None
        except OSError:  # a file system without hard links
            os.replace(new, path)
    except OSError as error:
        raise InputError(f"{folder} cannot be written in: {error.strerror}") from error
    finally:
        for path in (new, old):
            path.unlink(missing_ok=True)


def _show_life(folder: Path, mine: Holder, stop: threading.Event) -> None:
    """Refresh ``.holder`` until told to stop; end this process if another one has taken the folder by force."""
    while not stop.wait(BEAT):
        try:
            holder = _read(folder / HOLDER)
            if holder is None and folder.is_dir():
                _sign(folder, mine)
            elif holder is not None and holder.token == mine.token:
                os.utime(folder / HOLDER)
            elif holder is not None and holder.token and not stop.is_set():
                print(
                    f"genlab: error: {folder} was taken by the process {holder.pid} of {holder.host}: this one ends, "
                    "so that they do not write in it together",
                    file=sys.stderr,
                    flush=True,
                )
                os._exit(1)
        except (OSError, InputError):
            continue  # such as a file server that does not answer for a while


def is_held(folder: Path) -> bool | None:
    """Tell whether a process works in a folder, without taking it; None if no process has said so.

    Args:
        folder: folder of a run or of a sweep.
    """
    holder = _read(folder / HOLDER)
    if holder is None:
        return None
    if not holder.is_here:
        return time.time() - _last_sign(folder) < STALE
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY)
    except FileNotFoundError:
        return False
    except OSError:
        return holder.is_running()
    try:
        free = _flock(descriptor, shared=True)
        return holder.is_running() if free is None else not free
    finally:
        os.close(descriptor)


def is_at_work(folder: Path, status: Mapping[str, Any]) -> bool | None:
    """Tell whether the process that trains a run is alive; None if it cannot be known.

    Args:
        folder: folder of the run.
        status: content of the run's ``status.json``.
    """
    if status.get("status") != "running":
        return False
    found = is_held(folder)
    if found is None:  # a process that has ended, or one of an earlier version on another machine
        return False if status.get("host") == socket.gethostname() else None
    return found
