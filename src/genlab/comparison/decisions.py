"""Decisions between settings: is the difference of two of them more than the noise of their seeds?

With a baseline, each setting is compared with it; without one, the best setting of a figure with each other one. Since
the best is chosen by the same values, its intervals are those of a comparison of all pairs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from genlab.comparison.baseline import Baseline, as_published, name_of
from genlab.comparison.cells import Cell, Column, Decision, Row, Table
from genlab.comparison.seed_noise import LEVEL, MOST, Difference, difference


def against_baseline(rows: Sequence[Row], columns: Sequence[Column], baseline: Baseline) -> list[Decision]:
    """Compare each row with its baseline, in each figure that the baseline has.

    Args:
        rows: rows of the table.
        columns: columns of figures.
        baseline: rows that the others are compared with; a row without runs stands for published values.
    """
    found = []
    for column in columns:
        pairs = [(row, base) for row in rows if (base := baseline.of(row)) is not None and column.key in base.cells]
        num = sum(bool(_values(row, base, column)) for row, base in pairs)
        for row, base in pairs:
            first = base.cells[column.key].values if base.runs else base.cells[column.key].value
            second = _values(row, base, column)
            if num:
                found.append(_decided(column, row, base, first, second, num))
    return found


def _values(row: Row, base: Row, column: Column) -> Mapping[int | None, float]:
    return measured(row, column) if base.runs else as_published(row, column)


def with_the_best(rows: Sequence[Row], column: Column) -> list[Decision]:
    """Compare the best row of a figure with each other row.

    Args:
        rows: rows of the table.
        column: column of the figure.
    """
    there = [row for row in rows if measured(row, column)]
    best = next((row for row in there if row.cells[column.key].best), None)
    if best is None or len(there) < 2:
        return []
    pairs = len(there) * (len(there) - 1) // 2
    of_best, others = measured(best, column), [row for row in there if row is not best]
    return [_decided(column, best, row, measured(row, column), of_best, pairs) for row in others]


def measured(row: Row, column: Column) -> Mapping[int | None, float]:
    """Give the values of a row's seeds in a column, by seed."""
    cell = row.cells.get(column.key)
    return {} if cell is None else cell.values


def difference_columns(
    rows: Sequence[Row], columns: Sequence[Column], baseline: Baseline, decisions: Sequence[Decision]
) -> dict[str, Column]:
    """Build a column of differences from the baseline for each figure, and fill the cells of the rows.

    Args:
        rows: rows of the table.
        columns: columns of figures.
        baseline: rows that the others are compared with.
        decisions: comparisons of the rows with the baseline.

    Returns:
        The columns by the key of their figure.
    """
    found: dict[str, Column] = {}
    by_place = {(one.column, one.setting): one for one in decisions}
    for column in columns:
        of_rows = {row.label: one for row in rows if (one := by_place.get((column.key, row.label))) is not None}
        if not any(one.difference for one in of_rows.values()):
            continue
        about = Column(
            f"difference/{column.key}", f"Δ {column.title}", "difference", mark=column.mark, unit=column.unit
        )
        for row in rows:
            if any(row is base for base in baseline.rows) and column.key in row.cells:
                row.cells[about.key] = Cell("baseline")
            elif (one := of_rows.get(row.label)) is not None and one.difference is not None:
                sign = "+" if one.difference.value > 0 else ""
                text = f"{sign}{_interval(one.difference)} {_word(one)}"
                row.cells[about.key] = Cell(text, one.difference.value, difference=one.difference)
        found[column.key] = about
    return found


def sentences(decisions: Sequence[Decision], most: int = 12) -> list[str]:
    """Give the decisions in words, at most so many, and one line for those without an interval for the same reason.

    Args:
        decisions: decisions on one figure.
        most: largest number of sentences.
    """
    lines = [one.sentence for one in decisions if one.difference is not None]
    reasons = list(dict.fromkeys(one.sentence for one in decisions if one.difference is None))
    lines += reasons
    return lines if len(lines) <= most else [*lines[:most], f"... and {len(lines) - most} more: --format json has all"]


def said(table: Table) -> list[Decision]:
    """Choose the decisions that are said in words: those on one figure; the columns of differences show the others."""
    keys = {column.key for column in deciding([one for one in table.columns if one.role == "figure"], table.sort)}
    return [one for one in table.decisions if one.column in keys]


def about_intervals(table: Table) -> str | None:
    """Explain the intervals of a table's decisions in one line; None if there are none."""
    found = [one.difference for one in table.decisions if one.difference is not None]
    if not found:
        return None
    paired = {one.paired for one in found}
    how = "of means over seeds" if paired == {False} else f"paired by seed{' where seeds pair' * (False in paired)}"
    together = "" if all(one.level == LEVEL for one in found) else ", of all settings together"
    columns = any(column.role == "difference" for column in table.columns)
    signs = "; n.s.: not separable from seed noise" if columns and not all(one.separable for one in found) else ""
    return f"differences: ± half of the {100 * LEVEL:g} % confidence interval, {how}{together}{signs}"


def _decided(
    column: Column,
    row: Row,
    base: Row,
    first: Mapping[int | None, float] | float | None,
    second: Mapping[int | None, float],
    comparisons: int,
) -> Decision:
    place, setting, against = _names(row, base)
    name = ", ".join([column.label, *place])

    def decision(said: str, found: Difference | None = None, better: bool | None = None) -> Decision:
        return Decision(column.key, row.label, base.label, found, better, f"{name}: {said}")

    if not second or first is None or first == {}:
        lacking = against if second else setting
        return decision(f"{lacking} was not measured under this protocol")
    found = difference(first, second, comparisons)
    if found is None:
        return decision(_why_none(setting, against, first, second))
    unit = f" {column.unit}" if column.unit and column.unit not in column.title else ""
    amount = f"{_interval(replace(found, value=abs(found.value)) if found.separable else found)}{unit}"
    on = f"on {found.num} seeds"
    if found.separable:
        better = None if column.better is None else (found.value < 0) == (column.better == "min")
        word = {None: "higher" if found.value > 0 else "lower", True: "better", False: "worse"}[better]
        return decision(f"{setting} is {word} than {against} by {amount} {on}", found, better)
    if found.value == found.half_width == 0:
        return decision(f"{setting} and {against} are equal {on}", found)
    of_each = " of each" if base.runs else ""
    seeds = f"{'seed' if found.further == 1 else 'seeds'}{of_each}"
    more = f"some {found.further} more {seeds} may tell" if found.further else f"even {MOST} more {seeds} may not tell"
    return decision(f"{setting} and {against} are not separable, {amount} {on}; {more}", found)


def _names(row: Row, base: Row) -> tuple[list[str], str, str]:
    """Name two settings by what tells them apart, and give what both have in common."""
    words, of_base = row.label.split(" "), base.label.split(" ")
    common = [word for word in words if word in of_base] if base.runs else []
    own, others = ([word for word in of if word not in common] for of in (words, of_base))
    if not own or not others:  # one of them has only fewer keys
        return [], row.label, base.label
    if len(own) == len(others) == 1 and base.runs:  # the key is the same
        own, others = ([_short(word) for word in of] for of in (own, others))
    return common, " ".join(own), " ".join(others)


def _short(word: str) -> str:
    """Leave out the key of a choice, and all but the last part of another key."""
    key, equals, value = word.partition("=")
    if not equals:
        return word
    return value if key in ("experiment", "model", "dataset") else f"{key.rpartition('.')[2]}={value}"


def _why_none(
    setting: str, against: str, first: Mapping[int | None, float] | float, second: Mapping[int | None, float]
) -> str:
    several = {setting: second, against: first if isinstance(first, Mapping) else {None: first}}
    for label, values in several.items():
        for seed, value in values.items():
            if not math.isfinite(value):
                return f"{label} has no finite value at seed={seed}, so it is compared with nothing"
    alone = [label for label, values in several.items() if len(values) == 1]
    further = "run further seeds (seed=0,1,2)"
    if len(alone) == 2:
        return f"with one seed each, no difference can be told from seed noise; {further}"
    return f"{alone[0]} has one seed, whose noise is not known; {further}"


def _word(decision: Decision) -> str:
    if decision.difference is not None and not decision.difference.separable:
        return "n.s."
    return {True: "better", False: "worse", None: ""}[decision.better]


def _interval(found: Difference) -> str:
    """Write a difference with two digits of its half-width, and more if the two would look equal and are not."""
    if found.half_width <= 1e-9 * abs(found.value):  # but for rounding, the seeds do not differ
        return f"{found.value:.6g} ± 0"
    decimals = max(0, min(6, 1 - math.floor(math.log10(found.half_width))))
    while True:
        value, half_width = f"{found.value:,.{decimals}f}", f"{found.half_width:,.{decimals}f}"
        if value.lstrip("-") != half_width or abs(found.value) == found.half_width or decimals == 6:
            return f"{value} ± {half_width}"
        decimals += 1


def deciding(columns: Sequence[Column], sort: str | None) -> list[Column]:
    """Choose the figure that decisions are said about: the one that is sorted by, or else the first with a direction.

    Args:
        columns: columns of figures.
        sort: column to sort by, as the user named it.

    Returns:
        The columns of the figure, one for each protocol.
    """
    wanted = (sort or "").removeprefix("-")
    directed = [column for column in columns if column.better is not None]
    named = [c for c in directed if wanted and wanted in (c.key, c.title, name_of(c), c.key.partition("[")[0])]
    first = next(iter([*named, *directed]), None)
    return [] if first is None else [c for c in directed if c.key.partition("[")[0] == first.key.partition("[")[0]]
