"""Columns of what is known of a run without measuring its samples: size, length, speed."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from genlab.comparison.cells import Cell, Column, Row
from genlab.comparison.runs import Run
from genlab.machine.rate import rate
from genlab.runs.speed import speed_of


@dataclass(frozen=True)
class Fact:
    """A property of a run that is not a measured figure, averaged over seeds.

    Attributes:
        column: column in which it is shown.
        value: function that reads the value of a run.
        form: function that writes the value.
    """

    column: Column
    value: Callable[[Run], Any]
    form: Callable[[float], str]


SPEED = "images_per_second"

FACTS = (
    Fact(Column("parameters", "parameters", "fact"), lambda run: run.summary.get("parameters"), "{:,.0f}".format),
    Fact(
        Column("images_seen", "images seen", "fact"),
        lambda run: run.summary.get("images_seen", run.images_seen),
        "{:,.0f}".format,
    ),
    Fact(
        Column(SPEED, "images/s", "fact", better="max"),
        lambda run: speed_of(run.summary)[0],
        rate,
    ),
    Fact(
        Column("wall_seconds", "wall time", "fact", better="min", unit="s"),
        lambda run: run.summary.get("wall_seconds"),
        "{:,.0f}".format,
    ),
)


def fill_fact(fact: Fact, rows: Sequence[Row]) -> bool:
    """Fill the cells of a fact's column; tell whether any row has a value."""
    for row in rows:
        values = [value for run in row.runs if isinstance(value := fact.value(run), int | float)]
        if values:
            mean = statistics.fmean(values)
            unit = f" {fact.column.unit}" if fact.column.unit else ""
            row.cells[fact.column.key] = Cell(f"{fact.form(mean)}{unit}", mean)
    return any(fact.column.key in row.cells for row in rows)


def speed_column(column: Column, rows: Sequence[Row]) -> Column:
    """Name the column of speeds by their unit; if there are several, each cell has its own.

    Args:
        column: column of speeds.
        rows: rows of the table, whose cells are filled.
    """
    units = {row.label: speed_of(run.summary)[1] for row in rows for run in row.runs if speed_of(run.summary)[0]}
    if len(set(units.values())) == 1:
        return replace(column, title=next(iter(units.values())))
    for row in rows:
        if (cell := row.cells.get(column.key)) is not None:
            row.cells[column.key] = replace(cell, text=f"{cell.text} {units[row.label]}")
    return replace(column, title="speed")
