"""Explain in one line what ended a run that was well configured: divergence, too little memory, the disk, Lightning."""

import errno
import os
import re
from collections.abc import Iterator

from genlab.errors import Diverged, InputError, RunFailed
from genlab.machine.plain_text import on_one_line

SMALLER = "a smaller dataset.batch_size, model or metrics.num_samples needs less"

# What torch, NumPy and CUDA say when there is too little memory; not all of them have a class for it.
_MEMORY = re.compile(
    r"can't allocate memory|CUDA out of memory|CUDA error: out of memory|MPS backend out of memory|bad_alloc|"
    r"ALLOC_FAILED|Unable to allocate|Storage size calculation overflowed|numel: integer multiplication overflow|"
    r"Cannot allocate memory"
)
_ASKED = re.compile(r"(?:tried to allocate|Tried to allocate|Unable to allocate) ([\d.]+) ?([KMGTPE]?i?B|bytes)")

# What to do about what the system refuses.
_HELP = {
    errno.ENOSPC: "make room, then go on with resume=RUN",
    errno.EDQUOT: "make room, then go on with resume=RUN",
    errno.EROFS: "choose another place, as by paths.output_dir=DIR",
    errno.EACCES: "change the permissions, or choose another place, as by paths.output_dir=DIR",
    errno.EPERM: "change the permissions, or choose another place, as by paths.output_dir=DIR",
    errno.ENOENT: "was it moved or removed?",
    errno.EMFILE: "allow more, as by ulimit -n 4096",
    errno.ESTALE: "connect the shared disk again",
}

_OF_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)


def chain(error: BaseException) -> Iterator[BaseException]:
    """Iterate over an error and the errors that caused it."""
    seen: list[BaseException] = []
    found: BaseException | None = error
    while found is not None and found not in seen:
        yield found
        seen.append(found)
        found = found.__cause__


def kind_of(error: BaseException) -> str:
    """Name the kind of an error for programs: ``diverged``, ``failed``, ``memory``, ``system`` or ``input``.

    Args:
        error: error that is explained in one line; what is none of the others is a wrong input.
    """
    causes = list(chain(error))
    if any(isinstance(one, Diverged) for one in causes):
        return "diverged"
    if any(isinstance(one, RunFailed) for one in causes):
        return "failed"
    if any(map(_is_memory, causes)):
        return "memory"
    # A file that is not there is the input's fault, whoever says so; a full disk is not.
    of_disk = any(isinstance(one, OSError) and one.errno in _OF_DISK for one in causes)
    of_system = isinstance(error, OSError) and error.errno is not None  # and not one of Hydra's that is called so
    return "system" if of_disk or of_system else "input"


def failure(error: BaseException) -> str | None:
    """Explain what ended a run in one line; give None for an error that none of these reasons explains.

    Args:
        error: what was raised; errors that it was raised from are looked at too.
    """
    for one in chain(error):
        line = _of_one(one)
        if line is not None:
            return on_one_line(line)
    return None


def _of_one(error: BaseException) -> str | None:
    if isinstance(error, Diverged | InputError | RunFailed):
        return str(error)
    if _is_memory(error):
        return too_little_memory(str(error))
    if isinstance(error, OSError) and error.errno is not None:
        return _of_system(error)
    if type(error).__name__ == "MisconfigurationException" and type(error).__module__.startswith("lightning"):
        return f"trainer: {error}"
    return None


def _is_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ in ("OutOfMemoryError", "AcceleratorError"):
        return isinstance(error, MemoryError) or bool(re.search("out of memory", str(error)))
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and _MEMORY.search(str(error)) is not None


def too_little_memory(message: str) -> str:
    """Say that there was too little memory, how much was asked for, and what needs less.

    Args:
        message: message of the library that asked for memory.
    """
    of_device = "the GPU has" if re.search("CUDA|MPS|CUBLAS|CUDNN", message) else "this machine has"
    asked = _ASKED.search(message)
    more = ""
    if asked is not None:
        amount, unit = float(asked[1]), asked[2]
        size = f"{amount / 2**30:,.1f} GiB" if unit == "bytes" else f"{amount:g} {unit}"
        more = f" ({size} more were asked for)"
    return f"{of_device} too little memory{more}: {SMALLER}"


def _of_system(error: OSError) -> str:
    names = [str(name) for name in (error.filename, error.filename2) if name is not None]
    where = " and ".join(names)
    if error.errno == errno.ENOENT and not names and not _has_current_folder():
        return "the current folder is gone: change to another one"
    reason = (error.strerror or type(error).__name__).lower()
    return f"{f'{where}: ' if where else ''}{reason}" + (
        f"; {advice}" if (advice := _HELP.get(error.errno or 0)) else ""
    )


def _has_current_folder() -> bool:
    try:
        return bool(os.getcwd())
    except OSError:
        return False
