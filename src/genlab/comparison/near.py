"""A hint at what a name that does not exist may have meant, among the names of a table."""

from collections.abc import Sequence
from difflib import get_close_matches

from genlab.metrics.figure import short


def near(wanted: str, known: Sequence[str]) -> str:
    """Say which known name is the nearest, or which names there are.

    Args:
        wanted: name that does not exist.
        known: names that exist; those of figures are also known without their split.
    """
    found = get_close_matches(wanted, [*known, *map(short, known)], n=1)
    return f"; did you mean {found[0]}?" if found else f"; there is {', '.join(known) or 'none'}"
