"""Tables in text form: comma-separated values and their like, with or without a header, as programs write them."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from genlab.errors import InputError

# auto: a header is a row of names, or of the numbers 0, 1, 2, ... or 1, 2, 3, ... in order. text: a row of names only,
# as in earlier versions.
Header = bool | Literal["auto", "text"]

_LINES = 20  # number of lines by which the separator is chosen


@dataclass(frozen=True)
class Columns:
    """Columns of a file: their names, and the cells of each, of any type.

    Attributes:
        names: names of the columns.
        cells: cells of each column.
        header: where the names come from, for the protocol.
        numbered: names that are numbers, as they stand in the first row, if they were taken for a header unasked.
    """

    names: list[str]
    cells: list[Sequence[Any]]
    header: str = "none"
    numbered: str | None = None


def read_text(path: Path, header: Header = "auto") -> Columns:
    """Read a table in text form.

    Lines that are empty or begin with ``#`` are no rows, but the last ``#`` line before the first row is the header if
    it has a name for each column (``numpy.savetxt``). An empty cell at the end of every row is dropped.

    Args:
        path: path of the file.
        header: whether the first row is a header; see :data:`Header`.

    Raises:
        InputError: if the file is not a table in UTF-8, or its rows differ in length.
    """
    try:
        lines = [line for line in path.read_text(encoding="utf-8-sig").split("\n") if line.strip()]
    except (UnicodeDecodeError, OSError) as error:
        raise InputError(f"{path} cannot be read as a table in UTF-8 ({error})") from error
    if any("\0" in line for line in lines):
        raise InputError(f"{path} cannot be read as a table in UTF-8 (it has NUL bytes)")
    body = [line for line in lines if not _is_comment(line)]
    if not body:
        return Columns([], [])
    above = lines[: lines.index(body[0])]
    try:
        separator = _separator(body[:_LINES])
        rows = _whole(_rows(body, separator, strict=True))
        for line in lines[len(above) :]:
            if _is_comment(line) and all(map(is_number, _rows([_uncommented(line)], separator)[0])):
                raise InputError(f"{path}: the line {line.strip()} is a comment, but has numbers: mend or remove it")
        comment = _without_end(_rows([_uncommented(above[-1])], separator)[0]) if above else None
    except csv.Error as error:
        raise InputError(f"{path} cannot be read as a table in UTF-8 ({error})") from error
    return _columns(path, rows, comment, header)


def _is_comment(line: str) -> bool:
    return line.lstrip().startswith("#")


def _uncommented(line: str) -> str:
    return line.lstrip().lstrip("#").strip() or '""'


def _separator(lines: list[str]) -> str:
    """Choose the first of tab, semicolon and comma that divides all lines alike, or else is in the first; or blanks."""
    inside = [sign for sign in "\t;," if sign in lines[0]]
    for sign in inside:
        widths = {len(_without_end(row)) for row in _rows(lines, sign)}
        if len(widths) == 1 and widths != {1}:
            return sign
    return inside[0] if inside else " "


def _rows(lines: list[str], separator: str, strict: bool = False) -> list[list[str]]:
    # Blanks at the ends of a line are nothing, even where blanks separate.
    text = "".join(line.strip(" \r\n") + "\n" for line in lines)
    reader = csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True, strict=strict)
    return [row for row in reader if row]


def _without_end(row: list[str]) -> list[str]:
    """Drop an empty cell at the end of a row, which is a separator at the end of its line."""
    return row[:-1] if len(row) > 1 and not row[-1].strip() else row


def _whole(rows: list[list[str]]) -> list[list[str]]:
    """Drop the empty cells that separators at the ends of lines make, but not a cell that lacks its value."""
    widths = [len(row) for row in rows if row == _without_end(row)]
    width = max(set(widths), key=widths.count) if widths else 0
    return [_without_end(row) if len(row) > width else row for row in rows]


def _columns(path: Path, rows: list[list[str]], comment: list[str] | None, header: Header) -> Columns:
    width = len(rows[0])
    names: list[str] | None = None
    found, numbered = "none", None
    is_first = header if isinstance(header, bool) else _is_header(rows, header)
    if header is not False and comment is not None and len(comment) == width and not any(map(is_number, comment)):
        names, found = comment, "the comment above the rows"
        is_first = is_first and header is True
    if is_first:
        names, found = rows.pop(0), "the first row"
        if not isinstance(header, bool) and any(map(is_number, names)):
            numbered = ",".join(names)
    for i, row in enumerate(rows):
        if len(row) != width:
            raise InputError(
                f"{path}: row {i + 1} has {len(row)} cells, and the table has {width} columns"
                + (" (its header has)" if names is not None else "")
            )
    names = [" ".join(cell.split()) or f"column {i + 1}" for i, cell in enumerate(names)] if names else _numbers(width)
    return Columns(names, list(zip(*rows, strict=True)) if rows else [[] for _ in names], found, numbered)


def _numbers(width: int) -> list[str]:
    return [str(i + 1) for i in range(width)]


def _is_header(rows: list[list[str]], header: Header) -> bool:
    """Tell whether the first row is a header: names, or numbers in order."""
    cells = [cell.strip() for cell in rows[0]]
    if not any(cells):
        return False
    if not any(map(is_number, cells)):
        return True
    if header == "text":
        return False
    # pandas leaves the name of its index empty: ",0,1,2".
    named = cells[1:] if not cells[0] and len(cells) > 1 else cells
    if named not in ([str(i) for i in range(len(named))], _numbers(len(named))):
        return False
    # One column of counts may begin with 0 or 1; it has a header if no other cell is written as an integer.
    return len(cells) > 1 or not any(row[0].strip().lstrip("+-").isdigit() for row in rows[1:])


def is_number(cell: str) -> bool:
    """Tell whether a cell is a number; NaN is one, because it marks a missing value and is no name of a column."""
    try:
        float(cell)
    except ValueError:
        return False
    return True
