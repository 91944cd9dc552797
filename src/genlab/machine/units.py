"""Amounts of space and time, as people write and read them."""

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}


def bytes_in_words(size: float) -> str:
    """Write a number of bytes in the unit that suits it."""
    for unit in ("B", "kB", "MB", "GB"):
        if abs(size) < 999.5:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:,.3g} TB"


def counted(number: int, one: str, several: str) -> str:
    """Write a number with what is counted: ``1 run``, ``1,200 runs``.

    Args:
        number: number of things.
        one: name of a single one.
        several: name of several, or of none.
    """
    return f"{number:,} {one if number == 1 else several}"


def seconds_of(text: str) -> float | None:
    """Read an amount of time such as ``45s``, ``90m``, ``8h``, ``30d`` or ``2w``; None if it is none.

    Args:
        text: a number with its unit.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhdw])", text)
    return None if found is None else float(found[1]) * _SECONDS[found[2]]


def time_in_words(seconds: float) -> str:
    """Write an amount of time in the largest unit that it has one of: ``3 d``, ``5 h``, ``12 min`` or ``40 s``."""
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds // length:,.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
