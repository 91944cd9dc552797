"""Where the runs to compare lie."""

from glob import glob
from pathlib import Path

from genlab.errors import InputError


def expanded(given: list[str]) -> list[str]:
    """Give folders, with the glob patterns that the shell left alone expanded.

    Raises:
        InputError: if there is nothing at a path, or nothing that matches a pattern.
    """
    found: list[str] = []
    for path in given:
        matches = [path] if Path(path).exists() else sorted(glob(path, recursive=True))
        if not matches:
            raise InputError(f"there is no {path}")
        found += matches
    return found
