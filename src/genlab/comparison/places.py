"""Paths of the runs to compare."""

from glob import glob
from pathlib import Path

from genlab.errors import InputError


def expanded(given: list[str]) -> list[str]:
    """Expand the glob patterns among paths that the shell did not expand.

    Raises:
        InputError: if a path does not exist or a pattern matches nothing.
    """
    found: list[str] = []
    for path in given:
        matches = [path] if Path(path).exists() else sorted(glob(path, recursive=True))
        if not matches:
            raise InputError(f"there is no {path}")
        found += matches
    return found
