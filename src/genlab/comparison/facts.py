"""Columns of what is known of a run without measuring its samples: size, length, speed."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from genlab.comparison.cells import Cell, Column, Row
from genlab.comparison.runs import Run


@dataclass(frozen=True)
class Fact:
    """A property of a run that is not a measured figure, averaged over seeds.

    Attributes:
        column: column in which it is shown.
        value: function that reads the value of a run.
        form: format specification of the value.
    """

    column: Column
    value: Callable[[Run], Any]
    form: str


FACTS = (
    Fact(Column("parameters", "parameters", "fact"), lambda run: run.summary.get("parameters"), ",.0f"),
    Fact(
        Column("images_seen", "images seen", "fact"),
        lambda run: run.summary.get("images_seen", run.images_seen),
        ",.0f",
    ),
    Fact(
        Column("images_per_second", "images/s", "fact", better="max"),
        lambda run: run.summary.get("images_per_second"),
        ",.0f",
    ),
    Fact(
        Column("wall_seconds", "wall time", "fact", better="min", unit="s"),
        lambda run: run.summary.get("wall_seconds"),
        ",.0f",
    ),
)


def fill_fact(fact: Fact, rows: Sequence[Row]) -> bool:
    """Fill the cells of a fact's column; tell whether any row has a value."""
    for row in rows:
        values = [value for run in row.runs if isinstance(value := fact.value(run), int | float)]
        if values:
            mean = statistics.fmean(values)
            unit = f" {fact.column.unit}" if fact.column.unit else ""
            row.cells[fact.column.key] = Cell(f"{mean:{fact.form}}{unit}", mean)
    return any(fact.column.key in row.cells for row in rows)
