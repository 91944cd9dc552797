"""Lists of things with their facts, as text: for the terminal, Markdown, CSV and JSON."""

import csv
import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genlab.machine.console import LiteralConsole, console
from genlab.machine.plain_text import on_one_line, printable


def in_words(value: Any) -> str:
    """Write a value for people: ``-`` for None, and the parts of a list with commas between them."""
    if value is None or value == []:
        return "-"
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


@dataclass(frozen=True)
class Column:
    """A fact that each thing of a list has.

    Attributes:
        key: name of the fact in a row, in JSON and in CSV.
        title: heading of the column, for people.
        text: function that writes a value for people.
        is_number: whether the column stands to the right.
        is_spare: whether a terminal that is too narrow leaves the column out.
    """

    key: str
    title: str
    text: Callable[[Any], str] = in_words
    is_number: bool = False
    is_spare: bool = False


@dataclass(frozen=True)
class Listing:
    """A list of things.

    Attributes:
        columns: facts, in the order of the columns.
        rows: for each thing, its facts by key.
        notes: lines below the table.
    """

    columns: Sequence[Column]
    rows: Sequence[Mapping[str, Any]]
    notes: Sequence[str] = ()


def on_terminal(listing: Listing) -> None:
    """Print a list as a table; if the terminal is too narrow, spare columns are left out, and cells are folded."""
    columns, left_out = list(listing.columns), list[str]()
    table, width = _rich(listing, columns)
    out = console(at_least=width)
    spare = [column for column in columns if column.is_spare]
    while width > out.width and spare:
        left_out.insert(0, spare[-1].title)
        columns.remove(spare.pop())
        table, width = _rich(listing, columns)
    out.print(table)
    for note in listing.notes:
        out.print(note, highlight=False, soft_wrap=True)
    if left_out:
        out.print(f"left out, because the terminal is too narrow: {', '.join(left_out)}", highlight=False)


def _rich(listing: Listing, columns: Sequence[Column]) -> tuple[Any, int]:
    """Build the Rich table, and compute its width without line breaks."""
    from rich.measure import Measurement
    from rich.table import Table

    table = Table()
    for column in columns:
        table.add_column(column.title, justify="right" if column.is_number else "left", overflow="fold")
    for row in listing.rows:
        table.add_row(*(column.text(row.get(column.key)) for column in columns))
    unbounded = LiteralConsole(width=10_000)
    return table, Measurement.get(unbounded, unbounded.options, table).maximum


def markdown(listing: Listing) -> str:
    """Write a list as a table of Markdown, with the notes below it."""

    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    lines = [line([literal(column.title) for column in listing.columns])]
    lines.append(line(["---:" if column.is_number else "---" for column in listing.columns]))
    for row in listing.rows:
        lines.append(line([literal(column.text(row.get(column.key))) for column in listing.columns]))
    if listing.notes:
        lines += ["", *(f"- {literal(note)}" for note in listing.notes)]
    return "\n".join(lines) + "\n"


def comma_separated(listing: Listing) -> str:
    """Write a list as CSV: numbers as they are, lists with blanks between their parts, nothing for None."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in listing.columns])
    for row in listing.rows:
        values = [row.get(column.key) for column in listing.columns]
        writer.writerow([inert(" ".join(map(str, v)) if isinstance(v, list | tuple) else v) for v in values])
    return text.getvalue()


def as_json(listing: Listing) -> str:
    """Write a list as a JSON array with an object for each thing."""
    return json.dumps(list(listing.rows), indent=2, default=str, allow_nan=False) + "\n"


FORMATS: dict[str, Callable[[Listing], str]] = {"markdown": markdown, "csv": comma_separated, "json": as_json}
NAMES = ("table", *FORMATS)


def show(listing: Listing, form: str) -> None:
    """Print a list.

    Args:
        listing: list to print.
        form: one of :data:`NAMES`.
    """
    if form == "table":
        on_terminal(listing)
    else:
        print(FORMATS[form](listing), end="")


_ENTITIES = {"&": "&amp;", "<": "&lt;", ">": "&gt;"}


def literal(text: str) -> str:
    """Escape what Markdown would read as HTML, a link, code, emphasis or the end of a cell."""
    text = re.sub(r"[\\`*|]|(?<!\w)_|_(?!\w)|(?<=\])[(\[]", r"\\\g<0>", on_one_line(text))
    return re.sub("[&<>]", lambda found: _ENTITIES[found[0]], text)


def inert(value: Any) -> Any:
    """Put a ``'`` before a text that a spreadsheet would compute as a formula; numbers stay numbers."""
    if not isinstance(value, str):
        return value
    value = printable(value)
    if not value.lstrip().startswith(("=", "+", "-", "@")):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value
