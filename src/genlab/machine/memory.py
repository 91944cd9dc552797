"""How much memory is free, asked before something large is begun."""

import os
from pathlib import Path

from genlab.errors import InputError

LITTLE = 1 << 26  # bytes for which the machine is not asked, because the answer takes longer than many a computation


def free_memory() -> int:
    """Give the bytes of memory that this process may still take, by the machine and by its control group."""
    free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for line in _text(Path("/proc/meminfo")).splitlines():
        name, _, value = line.partition(":")
        if name == "MemAvailable":
            free = int(value.split()[0]) * 1024
    limit, used = (_text(Path("/sys/fs/cgroup", name)).strip() for name in ("memory.max", "memory.current"))
    return min(free, int(limit) - int(used)) if limit.isdigit() and used.isdigit() else free


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""


def check_fits(needed: int, what: str) -> None:
    """Check that something fits in the memory that is free.

    Args:
        needed: number of bytes that it takes.
        what: what it is and how to have less of it, for the error message.

    Raises:
        InputError: if it does not fit.
    """
    if needed > LITTLE and needed > (free := free_memory()):
        raise InputError(
            f"{what}: they need {needed / 1e9:,.1f} GB of memory, and {max(free, 0) / 1e9:,.1f} GB are free"
        )
