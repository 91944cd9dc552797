"""The table of a comparison: a row per setting with statistics over its seeds, a column per figure and protocol."""

import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from typing import Any, Literal

from genlab.comparison.protocols import Agreement, agreement
from genlab.comparison.runs import ABSENT, Run, differing
from genlab.errors import InputError
from genlab.machine.rate import rate
from genlab.metrics.catalogue import figure
from genlab.metrics.display import remark
from genlab.metrics.figure import Figure, short
from genlab.metrics.published import Published
from genlab.metrics.result import Result
from genlab.runs.speed import speed_of
from genlab.runs.verdicts import Standing, standings

Role = Literal["config", "seeds", "figure", "published", "verdict", "fact", "status"]
Spread = Literal["std", "sem"]


@dataclass
class Column:
    """A column; a figure has one column for each protocol under which it was measured.

    Attributes:
        key: unique key of the column.
        title: title shown to the user.
        role: kind of content.
        better: direction of improvement; None if there is none.
        unit: unit of the values; None if they are dimensionless.
        protocol: protocol fields that all values of the column share; None if the column is not a figure.
        mark: suffix of the title that distinguishes the protocols of a figure, such as ``[1]``.
        description: protocol of the figure in a few words.
    """

    key: str
    title: str
    role: Role
    better: Literal["min", "max"] | None = None
    unit: str | None = None
    protocol: dict[str, Any] | None = None
    mark: str = ""
    description: str | None = None


@dataclass
class Cell:
    """A cell of the table.

    Attributes:
        text: formatted content.
        value: value, or mean over seeds; None if the cell has no number.
        std: standard deviation over seeds; None for fewer than two seeds.
        num: number of seeds.
        best: whether the value is the best of its column.
    """

    text: str
    value: float | None = None
    std: float | None = None
    num: int = 1
    best: bool = False


@dataclass
class Row:
    """Runs that differ only in their seed.

    Attributes:
        label: name of the setting.
        runs: runs of the setting, one per seed.
        cells: cells by the key of the column; a missing cell has no value.
    """

    label: str
    runs: list[Run]
    cells: dict[str, Cell] = field(default_factory=dict)

    @property
    def published(self) -> Published | None:
        """The published figures of the setting's experiment; None if it reproduces none."""
        return self.runs[0].published

    @property
    def standings(self) -> dict[str, Standing]:
        """The published figures beside those of the finished seeds, by short name."""
        if self.published is None:
            return {}
        return standings(self.published, [run.finished for run in self.runs if run.finished is not None])


@dataclass
class Table:
    """A comparison of runs.

    Attributes:
        columns: columns from left to right.
        rows: rows from top to bottom.
        shared: model, dataset and experiment, as far as they are the same for all runs.
        notes: warnings that a reader needs before trusting a ranking.
        spread: quantity shown after ±: the standard deviation of one run or the standard error of the mean.
    """

    columns: list[Column]
    rows: list[Row]
    shared: dict[str, str]
    notes: list[str]
    spread: Spread = "std"


def compared(
    runs: Sequence[Run], figures: Sequence[str] | None = None, sort: str | None = None, spread: Spread = "std"
) -> Table:
    """Group runs into rows, average figures over seeds and mark the best value of each column.

    Args:
        runs: runs to compare.
        figures: names of the figures to show, such as ``fid`` or ``test/fid``; ``["all"]`` for all; None for the
            default ones.
        sort: column to sort by, best first; with a minus (``-fid``), worst first. None keeps the order of the runs.
        spread: quantity shown after ± for several seeds: the standard deviation of one run (``"std"``) or the standard
            error of the mean (``"sem"``).

    Raises:
        InputError: if no run has one of the figures or the column to sort by, or if there are only runs of
            ``debug=fast_dev_run``, which are left out.
    """
    trials = sum(run.is_trial for run in runs)
    runs = [run for run in runs if not run.is_trial]
    if trials and not runs:
        raise InputError(f"{_number_of_runs(trials)} of debug=fast_dev_run, whose figures mean nothing")
    readable = [run for run in runs if run.config]
    told = differing(readable)
    rows, notes = _rows(readable, told)
    notes += [f"{_number_of_runs(trials)} left out: debug=fast_dev_run"] if trials else []
    rows += [Row(run.path.name, [run]) for run in runs if not run.config]
    columns = [Column(key, key, "config") for key in told]
    by_config = {id(run): i for i, run in enumerate(readable)}
    for row in rows:
        for key, values in told.items() if row.runs[0].config else ():
            if (value := values[by_config[id(row.runs[0])]]) is not ABSENT:
                number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
                row.cells[key] = Cell(_plain(value), number)
    if not told or any(not run.config for run in runs):
        columns.insert(0, Column("run", "run", "config"))
        for row in rows:
            row.cells["run"] = Cell(row.label if row.runs[0].config else str(row.runs[0].path))
    if any(len(row.runs) > 1 for row in rows):
        columns.append(Column("seeds", "seeds", "seeds"))
        for row in rows:
            row.cells["seeds"] = Cell(_seeds(row.runs), len(row.runs))
    declared = {name: about for run in runs for name, about in run.declared.items()}
    unlike: dict[str, list[str]] = {}  # titles of figures by the protocols that they were measured under
    chosen = _chosen(runs, figures, declared)
    beside = _published_columns(rows, declared)
    for name in chosen:
        of_figure = _figure_columns(name, figure(name, declared), rows, spread)
        columns += of_figure
        if len(of_figure) > 1:
            unlike.setdefault(_protocols(of_figure), []).append(of_figure[0].title)
        columns += beside.pop(short(name), [])
    if figures is None or figures == ["all"]:  # also those that no run has measured yet
        columns += [column for pair in beside.values() for column in pair]
    notes += [_unlike(titles, protocols) for protocols, titles in unlike.items()]
    for fact in FACTS:
        if _fill_fact(fact, rows):
            columns.append(_in_units(fact.column, rows) if fact.column.key == SPEED else fact.column)
    columns.append(Column("status", "status", "status"))
    for row in rows:
        row.cells["status"] = Cell(_status(row.runs))
    if sort:
        _sort(rows, columns, sort)
    shared = {
        key: value
        for key in ("experiment", "model", "dataset")
        if key not in told and readable and (value := readable[0].choices.get(key))
    }
    return Table(columns, rows, shared, notes, spread)


# -- rows --------------------------------------------------------------------------------------------------------------


def _rows(runs: Sequence[Run], told: dict[str, list[Any]]) -> tuple[list[Row], list[str]]:
    groups: dict[str, list[Run]] = {}
    labels: dict[str, str] = {}
    for i, run in enumerate(runs):
        key = repr((sorted(run.choices.items()), sorted(run.config.items())))
        groups.setdefault(key, []).append(run)
        words = [f"{name}={_plain(values[i])}" for name, values in told.items() if values[i] is not ABSENT]
        labels.setdefault(key, " ".join(words) or str(run.choices.get("model", run.path.name)))
    rows, twice = [], 0
    for key, group in groups.items():
        kept = _one_each_seed(group)
        twice += len(group) - len(kept)
        rows.append(Row(labels[key], kept))
    notes = (
        [f"{_number_of_runs(twice)} left out: of one setting and seed, the last finished one counts"] if twice else []
    )
    return rows, notes


def _number_of_runs(num: int) -> str:
    return "1 run is" if num == 1 else f"{num} runs are"


def _one_each_seed(runs: Sequence[Run]) -> list[Run]:
    """Keep the last finished run of each seed, because repeating a seed is not an independent measurement."""
    kept: dict[Any, Run] = {}
    for run in runs:
        before = kept.get(run.seed)
        if before is None or run.status == "done" or before.status != "done":
            kept[run.seed] = run
    return sorted(kept.values(), key=lambda run: (run.seed is None, run.seed or 0))


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list):
        return "[" + ",".join(map(_plain, value)) + "]"
    return "null" if value is None else str(value)


def _seeds(runs: Sequence[Run]) -> str:
    seeds = [run.seed for run in runs]
    if len(seeds) > 2 and None not in seeds and seeds == list(range(seeds[0], seeds[0] + len(seeds))):  # type: ignore[operator, arg-type]
        return f"{seeds[0]}-{seeds[-1]}"
    return ",".join("?" if seed is None else str(seed) for seed in seeds)


def _status(runs: Sequence[Run]) -> str:
    words: dict[str, list[Run]] = {}
    for run in runs:
        words.setdefault(run.status, []).append(run)
    parts = []
    for word, group in words.items():
        text = word if len(runs) == 1 else f"{len(group)} {word}"
        details = dict.fromkeys(
            run.reason or (f"{run.images_seen:,} images" if run.images_seen is not None else "") for run in group
        )
        told = "; ".join(filter(None, details))
        parts.append(f"{text}: {told}" if told else text)
    return ", ".join(parts)


# -- figures -----------------------------------------------------------------------------------------------------------


def _chosen(runs: Iterable[Run], wanted: Sequence[str] | None, declared: Mapping[str, Figure]) -> list[str]:
    known = list(dict.fromkeys(name for run in runs for name in run.results))
    if wanted == ["all"]:
        return known
    if wanted is None:
        published = {name for run in runs if run.published for name in run.published.figures}
        places = {name: place for name in known if (place := figure(name, declared).column) is not None}
        usual = sorted(places, key=places.__getitem__)
        usual += [name for name in known if name not in places and short(name) in published]
        protocols = [result.protocol for run in runs for results in run.results.values() for result in results]
        in_nats = any(protocol.get("levels") == 2 or protocol.get("of") == "density" for protocol in protocols)
        # NLL is redundant if bits/dim is shown, except for binary images and densities
        return [name for name in usual if in_nats or short(name) != "nll" or "nll" in published]
    chosen = []
    for one in wanted:
        found = [name for name in known if one in (name, short(name))]
        if not found:
            raise InputError(f"no run has the figure {one}{_near(one, known)}")
        chosen += found
    return chosen


def _figure_columns(name: str, about: Figure, rows: Sequence[Row], spread: Spread) -> list[Column]:
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
            protocol={key: value for terms in reversed(group.terms) for key, value in terms.shown().items()},
            mark=f"[{len(columns) + 1}]" if several else "",
            description=remark(result),
        )
        for row in rows:
            if own := [result for of, result in group.found.values() if of is row]:
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


def _mean(results: Sequence[Result], spread: Spread) -> Cell:
    """Average results over seeds, with the standard deviation of one run or the standard error of the mean."""
    values = [float(result.value) for result in results]
    mean = statistics.fmean(values)
    bound = "≤ " if any(result.is_upper_bound for result in results) else ""
    if len(values) == 1:
        return Cell(bound + number(mean), mean)
    std = statistics.stdev(values) if all(map(math.isfinite, values)) else math.nan
    decimals = _decimals(mean)
    shown = std / math.sqrt(len(values)) if spread == "sem" else std
    text = f"{shown:.0e}" if shown != 0 and round(shown, decimals) == 0 else f"{shown:,.{decimals}f}"
    return Cell(f"{bound}{mean:,.{decimals}f} ± {text}", mean, std, len(values))


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


def _protocols(columns: Sequence[Column]) -> str:
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


def _unlike(titles: Sequence[str], protocols: str) -> str:
    names = " and ".join(filter(None, (", ".join(titles[:-1]), titles[-1])))
    verb = "was" if len(titles) == 1 else "were"
    return f"{names} {verb} measured under unlike protocols, which are not ranked together: {protocols}"


# -- published figures -------------------------------------------------------------------------------------------------


def _published_columns(rows: Sequence[Row], declared: Mapping[str, Figure]) -> dict[str, list[Column]]:
    """Build two columns for each published figure, by its short name, and fill the cells of the rows."""
    found: dict[str, list[Column]] = {}
    names = list(dict.fromkeys(name for row in rows if row.published for name in row.published.figures))
    for name in names:
        about = figure(name, declared)
        of = f"{about.label} " if len(names) > 1 else ""
        papers = dict.fromkeys(row.published.paper for row in rows if row.published and name in row.published.figures)
        value = Column(f"{name}_published", f"{of}published", "published", description="; ".join(papers))
        word = Column(f"{name}_verdict", f"{of}verdict", "verdict")
        for row in rows:
            if (standing := row.standings.get(name)) is not None:
                row.cells[value.key] = Cell(standing.target, standing.published)
                if any(run.finished is not None for run in row.runs):
                    row.cells[word.key] = Cell(standing.words)
        found[name] = [value, word]
    return found


# -- facts -------------------------------------------------------------------------------------------------------------


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


def _fill_fact(fact: Fact, rows: Sequence[Row]) -> bool:
    for row in rows:
        values = [value for run in row.runs if isinstance(value := fact.value(run), int | float)]
        if values:
            mean = statistics.fmean(values)
            unit = f" {fact.column.unit}" if fact.column.unit else ""
            row.cells[fact.column.key] = Cell(f"{fact.form(mean)}{unit}", mean)
    return any(fact.column.key in row.cells for row in rows)


def _in_units(column: Column, rows: Sequence[Row]) -> Column:
    """Name the column of speeds by their unit; if there are several, each cell has its own."""
    units = {row.label: speed_of(run.summary)[1] for row in rows for run in row.runs if speed_of(run.summary)[0]}
    if len(set(units.values())) == 1:
        return replace(column, title=next(iter(units.values())))
    for row in rows:
        if (cell := row.cells.get(column.key)) is not None:
            row.cells[column.key] = replace(cell, text=f"{cell.text} {units[row.label]}")
    return replace(column, title="speed")


# -- order -------------------------------------------------------------------------------------------------------------


def _sort(rows: list[Row], columns: Sequence[Column], by: str) -> None:
    """Sort rows with the best first and missing values last; ties are broken by the figure's other protocols."""
    wanted, backwards = by.removeprefix("-"), by.startswith("-")
    keys = [c for c in columns if wanted in (c.key, c.title, short(c.key.partition("[")[0]), c.key.partition("[")[0])]
    if not keys:
        raise InputError(f"sort={by}: there is no such column{_near(wanted, [c.key for c in columns])}")
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


def _near(wanted: str, known: Sequence[str]) -> str:
    near = get_close_matches(wanted, [*known, *map(short, known)], n=1)
    return f"; did you mean {near[0]}?" if near else f"; there is {', '.join(known) or 'none'}"
