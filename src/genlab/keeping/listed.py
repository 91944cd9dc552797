"""A list of runs, as a table."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from genlab.machine.listing import Column, Listing
from genlab.machine.units import bytes_in_words, time_in_words

COLUMNS = (
    Column("folder", "folder"),
    Column("status", "status"),
    Column("model", "model"),
    Column("dataset", "dataset", is_spare=True),
    Column("images_seen", "images", lambda n: "-" if n is None else f"{n:,}", is_number=True, is_spare=True),
    Column("age_seconds", "age", time_in_words, is_number=True),
    Column("bytes", "size", bytes_in_words, is_number=True),
)

# By the word of sort=: what is compared, and whether the largest comes first. A list is in the order of the folders.
ORDERS: dict[str, tuple[Callable[[Mapping[str, Any]], Any], bool] | None] = {
    "folder": None,
    "size": (lambda row: row["bytes"], True),
    "age": (lambda row: row["age_seconds"], False),
    "images": (lambda row: row["images_seen"] or 0, True),
    "status": (lambda row: row["status"], False),
    "model": (lambda row: row["model"] or "", False),
}


def listed(rows: Sequence[Mapping[str, Any]], sort: str, notes: Sequence[str]) -> Listing:
    """Make a list of runs.

    Args:
        rows: facts of the runs, as :meth:`genlab.keeping.kept.Kept.as_row` gives them.
        sort: one of :data:`ORDERS`: the largest, the youngest or the longest trained first.
        notes: lines below the table.
    """
    order = ORDERS[sort]
    return Listing(COLUMNS, rows if order is None else sorted(rows, key=order[0], reverse=order[1]), notes)
