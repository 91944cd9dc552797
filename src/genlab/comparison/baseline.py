"""The setting, or the published values, that the other settings of a table are compared with."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genlab.comparison.cells import Cell, Column, Row
from genlab.metrics.figure import short

PUBLISHED = "published"  # the baseline of this name is the row of published values


@dataclass(frozen=True)
class Baseline:
    """The rows that the others of a table are compared with.

    Attributes:
        rows: rows of the baseline: one, or one for each combination of the keys that its name leaves open.
        open_keys: keys in which a row must agree with its baseline, if there are several.
    """

    rows: Sequence[Row]
    open_keys: Sequence[str] = ()

    def of(self, row: Row) -> Row | None:
        """Give the row that a row is compared with; None for a baseline itself, or if there is none."""
        if any(row is one for one in self.rows):
            return None
        found = [one for one in self.rows if all(_text(one, key) == _text(row, key) for key in self.open_keys)]
        return found[0] if len(found) == 1 else None


def find_baseline(rows: Sequence[Row], columns: Sequence[Column], named: str) -> Baseline | str:
    """Find the baseline of a table by name.

    Args:
        rows: rows of the table.
        columns: columns of the table.
        named: keys and values of the setting (``model=vae/vae training.optimizer.lr=0.001``), values alone
            (``vae/vae``), or the folder of one of its runs.

    Returns:
        The baseline, or a sentence that says why there is none.
    """
    keys = [column.key for column in columns if column.role == "config"]
    for row in rows:
        if row.label == named or any(Path(named).resolve() == run.path.resolve() for run in row.runs):
            return Baseline([row])
    words = named.replace(",", " ").split()
    fixed = {row.label: _fixed(row, words, keys) for row in rows}
    found = [row for row in rows if fixed[row.label] is not None]
    if len(found) == 1:
        return Baseline(found)
    if found and len(found) < len(rows):
        of_name = {key for row in found for key in fixed[row.label] or ()}
        return Baseline(found, [key for key in keys if key not in of_name])
    there = "; ".join(row.label for row in rows[:6]) + ("; ..." if len(rows) > 6 else "")
    what = "is every setting" if found else "is not among the runs"
    return f"baseline={named} {what}, so nothing is compared with it; there is {there}"


def published_row(rows: Sequence[Row], columns: Sequence[Column]) -> Row | None:
    """Make the row of published values, for a table whose settings reproduce the same paper; None for others.

    A published value stands in the column in which the runs were measured as their experiment says.

    Args:
        rows: rows of the table, with the cells of figures.
        columns: columns of figures.
    """
    papers = {row.published.paper: row.published for row in rows if row.published is not None}
    if len(papers) != 1:
        return None
    ((paper, published),) = papers.items()
    row = Row(f"published: {paper}", [])
    for column in columns:
        value = published.figures.get(name_of(column))
        if value is not None and any(as_published(one, column) for one in rows):
            row.cells[column.key] = Cell(f"{value:g}", value)
    return row if row.cells else None


def as_published(row: Row, column: Column) -> dict[int | None, float]:
    """Give the values of a row's seeds in a column, by seed, as far as they were measured as its experiment says."""
    name, cell = name_of(column), row.cells.get(column.key)
    if cell is None or row.published is None or name not in row.published.figures:
        return {}
    measured = {run.seed: run.finished.measured(name) for run in row.runs if run.finished is not None}
    return {seed: value for seed, value in cell.values.items() if measured.get(seed) == value}


def name_of(column: Column) -> str:
    """Give the short name of a column's figure: ``fid`` of ``test/fid[2]``."""
    return short(column.key.partition("[")[0])


def _fixed(row: Row, words: Sequence[str], keys: Sequence[str]) -> set[str] | None:
    """Give the keys whose values the words name in a row; None if a word says something else than the row."""
    found = set()
    for word in words:
        key, equals, value = word.partition("=")
        holders = [one for one in keys if _text(row, one) == (value if equals else word) and (not equals or one == key)]
        if not holders:
            return None
        found.update(holders)
    return found


def _text(row: Row, key: str) -> str | None:
    cell = row.cells.get(key)
    return None if cell is None else cell.text
