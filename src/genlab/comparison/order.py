"""The order of a table's rows."""

import math
from collections.abc import Sequence
from typing import Any

from genlab.comparison.cells import Column, Row
from genlab.comparison.near import near
from genlab.errors import InputError
from genlab.metrics.figure import short


def sort_rows(rows: list[Row], columns: Sequence[Column], by: str) -> None:
    """Sort rows with the best first and missing values last; ties are broken by the figure's other protocols.

    Args:
        rows: rows to sort, in place.
        columns: columns of the table.
        by: name of a column; with a minus, the worst comes first.

    Raises:
        InputError: if there is no such column.
    """
    wanted, backwards = by.removeprefix("-"), by.startswith("-")
    keys = [c for c in columns if wanted in (c.key, c.title, short(c.key.partition("[")[0]), c.key.partition("[")[0])]
    if not keys:
        raise InputError(f"sort={by}: there is no such column{near(wanted, [c.key for c in columns])}")
    for column in reversed(keys):
        _sort_by(rows, column.key, descending=(column.better == "max") != backwards)


def _sort_by(rows: list[Row], key: str, descending: bool) -> None:
    is_text = all(row.cells[key].value is None for row in rows if key in row.cells)

    def order(row: Row) -> tuple[bool, Any]:
        cell = row.cells.get(key)
        if is_text and cell is not None:
            return descending, cell.text
        if cell is None or cell.value is None or not math.isfinite(cell.value):
            return not descending, "" if is_text else 0.0
        return descending, cell.value

    rows.sort(key=order, reverse=descending)
