"""Columns of measured figures: one for each protocol, with means over seeds and the best value."""

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from genlab.comparison.cells import Cell, Column, Row, Spread
from genlab.comparison.near import near
from genlab.comparison.protocols import Agreement, agreement, shared
from genlab.comparison.runs import Run
from genlab.errors import InputError
from genlab.metrics.catalogue import figure
from genlab.metrics.display import remark
from genlab.metrics.figure import Figure, short
from genlab.metrics.result import Result


def chosen_figures(runs: Sequence[Run], wanted: Sequence[str] | None, declared: Mapping[str, Figure]) -> list[str]:
    """Choose the figures to show, by name.

    Args:
        runs: runs of the table.
        wanted: names of the figures, as the user gave them; None for the usual ones, ``["all"]`` for all.
        declared: declarations of figures that are not part of genlab, by short name.

    Raises:
        InputError: if no run has one of the figures.
    """
    known = list(dict.fromkeys(name for run in runs for name in run.results))
    if wanted == ["all"]:  # the usual ones first, as without a choice
        return list(dict.fromkeys([*chosen_figures(runs, None, declared), *known]))
    if wanted is None:
        published = {name for run in runs if run.published for name in run.published.figures}
        places = {name: place for name in known if (place := figure(name, declared).column) is not None}
        usual = sorted(places, key=places.__getitem__)
        usual += [name for name in known if name not in places and short(name) in published]
        protocols = [result.protocol for run in runs for results in run.results.values() for result in results]
        in_nats = any(protocol.get("levels") == 2 or protocol.get("of") == "density" for protocol in protocols)
        # NLL is redundant if bits/dim is shown, except for binary images and densities
        return [name for name in usual if in_nats or short(name) != "nll" or "nll" in published]
    found_names = []
    for one in wanted:
        found = [name for name in known if one in (name, short(name))]
        if not found:
            raise InputError(f"no run has the figure {one}{near(one, known)}")
        found_names += found
    return found_names


def figure_columns(name: str, about: Figure, rows: Sequence[Row], spread: Spread) -> list[Column]:
    """Build a column for each protocol of a figure, the most frequent first, and fill the cells of the rows.

    If a run has several results under one protocol, the last counts.
    """
    groups: list[_Group] = []
    by_protocol: dict[str, _Group] = {}
    for row in rows:
        for run in row.runs:
            for result in run.results.get(name, ()):
                terms = agreement(run, name, result, about)
                group = by_protocol.setdefault(repr(terms), _Group([terms], {}))
                group.found[id(run)] = (row, result)
    for group in sorted(by_protocol.values(), key=lambda group: len(group.found), reverse=True):
        home = next((other for other in groups if other.takes(group)), None)
        if home is None:
            groups.append(group)
        else:
            home.terms += group.terms
            home.found |= group.found
    columns: list[Column] = []
    for group in groups:
        result = next(iter(group.found.values()))[1]
        several = len(groups) > 1
        column = Column(
            key=f"{name}[{len(columns) + 1}]" if several else name,
            title=about.label,
            role="figure",
            better=about.better,
            unit=result.unit,
            protocol=shared(group.terms),
            mark=f"[{len(columns) + 1}]" if several else "",
            description=remark(result),
        )
        for row in rows:
            if own := [(run.seed, group.found[id(run)][1]) for run in row.runs if id(run) in group.found]:
                row.cells[column.key] = _mean(own, spread)
        _mark_best(column, rows)
        columns.append(column)
    return columns


@dataclass
class _Group:
    """Results of one column.

    Attributes:
        terms: the fields that must agree, for each kind of sampler.
        found: row and result of each run, by the ``id`` of the run object.
    """

    terms: list[Agreement]
    found: dict[int, tuple[Row, Result]]

    def takes(self, other: "_Group") -> bool:
        """Tell whether the other group's results agree with these and belong to other runs."""
        agree = all(one.joins(two) for one in self.terms for two in other.terms)
        return agree and not self.found.keys() & other.found.keys()


def _mean(measured: Sequence[tuple[int | None, Result]], spread: Spread) -> Cell:
    """Average results over seeds, with the standard deviation of one run or the standard error of the mean."""
    results = [result for _, result in measured]
    by_seed = {seed: float(result.value) for seed, result in measured}
    values = [float(result.value) for result in results]
    mean = statistics.fmean(values)
    bound = "≤ " if any(result.is_upper_bound for result in results) else ""
    if len(values) == 1:
        return Cell(bound + number(mean), mean, values=by_seed)
    std = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
    decimals = _decimals(mean)
    shown = std / math.sqrt(len(values)) if spread == "sem" else std
    text = f"{shown:.0e}" if shown != 0 and round(shown, decimals) == 0 else f"{shown:,.{decimals}f}"
    return Cell(f"{bound}{mean:,.{decimals}f} ± {text}", mean, std, len(values), values=by_seed)


def number(value: float) -> str:
    """Format a value with four significant digits and at most four decimals; whole numbers stay whole."""
    return f"{value:,.0f}" if value.is_integer() else f"{value:,.{_decimals(value)}f}"


def _decimals(value: float) -> int:
    if value == 0 or not math.isfinite(value):
        return 3
    return max(0, min(4, 3 - math.floor(math.log10(abs(value)))))


def _mark_best(column: Column, rows: Sequence[Row]) -> None:
    there = [row.cells[column.key] for row in rows if column.key in row.cells]
    values = [cell.value for cell in there if cell.value is not None and math.isfinite(cell.value)]
    if column.better is None or len(values) < 2:
        return
    best = min(values) if column.better == "min" else max(values)
    for cell in there:
        cell.best = cell.value == best


def unlike_protocols(columns: Sequence[Column]) -> str:
    """Say in what the protocols of a figure's columns differ."""
    protocols = [column.protocol or {} for column in columns]
    keys = dict.fromkeys(key for protocol in protocols for key in protocol)
    fields = [key for key in keys if len({str(protocol.get(key)) for protocol in protocols}) > 1]
    kinds = [
        f"{column.mark} " + ", ".join(f"{key}={_short(key, protocol.get(key))}" for key in fields)
        for column, protocol in zip(columns, protocols, strict=True)
    ]
    return "; ".join(kinds)


def _short(key: str, value: Any) -> Any:
    """Shorten a hash to as many digits as tell it from others to a reader; csv and json have all of them."""
    return f"{value[:8]}…" if key.endswith("sha256") and isinstance(value, str) and len(value) > 8 else value


def said_unlike(titles: Sequence[str], protocols: str) -> str:
    """Say that figures were measured under unlike protocols.

    Args:
        titles: titles of the figures.
        protocols: what :func:`unlike_protocols` says of them.
    """
    names = " and ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))
    verb = "was" if len(titles) == 1 else "were"
    return f"{names} {verb} measured under unlike protocols, which are not ranked together: {protocols}"
