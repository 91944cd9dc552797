"""The table of a comparison: a row per setting with statistics over its seeds, a column per figure and protocol."""

from collections.abc import Sequence

from genlab.comparison.baseline import PUBLISHED, Baseline, find_baseline, published_row
from genlab.comparison.cells import Cell, Column, Decision, Row, Spread, Table
from genlab.comparison.decisions import against_baseline, deciding, difference_columns, with_the_best
from genlab.comparison.facts import FACTS, SPEED, fill_fact, speed_column
from genlab.comparison.figure_columns import chosen_figures, figure_columns, said_unlike, unlike_protocols
from genlab.comparison.order import sort_rows
from genlab.comparison.published_columns import published_columns
from genlab.comparison.runs import ABSENT, Run, differing
from genlab.comparison.settings import as_text, number_of_runs, seeds_of, settings, status_of
from genlab.errors import InputError
from genlab.metrics.catalogue import figure
from genlab.metrics.figure import short


def compared(
    runs: Sequence[Run],
    figures: Sequence[str] | None = None,
    sort: str | None = None,
    spread: Spread = "std",
    baseline: str | None = None,
) -> Table:
    """Group runs into rows, average figures over seeds and mark the best value of each column.

    Args:
        runs: runs to compare.
        figures: names of the figures to show, such as ``fid`` or ``test/fid``; ``["all"]`` for all; None for the
            default ones.
        sort: column to sort by, best first; with a minus (``-fid``), worst first. None keeps the order of the runs.
        spread: quantity shown after ± for several seeds: the standard deviation of one run (``"std"``) or the standard
            error of the mean (``"sem"``).
        baseline: setting that the others are compared with, as :func:`~genlab.comparison.baseline.find_baseline` reads
            it, or ``published`` for the published values; None compares the best setting with the others.

    Raises:
        InputError: if no run has one of the figures or the column to sort by, or if there are only runs of
            ``debug=fast_dev_run``, which are left out.
    """
    trials = sum(run.is_trial for run in runs)
    runs = [run for run in runs if not run.is_trial]
    if trials and not runs:
        raise InputError(f"{number_of_runs(trials)} of debug=fast_dev_run, whose figures mean nothing")
    readable = [run for run in runs if run.config]
    told = differing(readable)
    rows, notes = settings(readable, told)
    notes += [f"{number_of_runs(trials)} left out: debug=fast_dev_run"] if trials else []
    rows += [Row(run.path.name, [run]) for run in runs if not run.config]
    columns = [Column(key, key, "config") for key in told]
    by_config = {id(run): i for i, run in enumerate(readable)}
    for row in rows:
        for key, values in told.items() if row.runs[0].config else ():
            if (value := values[by_config[id(row.runs[0])]]) is not ABSENT:
                number = value if isinstance(value, int | float) and not isinstance(value, bool) else None
                row.cells[key] = Cell(as_text(value), number)
    if not told or any(not run.config for run in runs):
        columns.insert(0, Column("run", "run", "config"))
        for row in rows:
            row.cells["run"] = Cell(row.label if row.runs[0].config else str(row.runs[0].path))
    if any(len(row.runs) > 1 for row in rows):
        columns.append(Column("seeds", "seeds", "seeds"))
        for row in rows:
            row.cells["seeds"] = Cell(seeds_of(row.runs), len(row.runs))
    declared = {name: about for run in runs for name, about in run.declared.items()}
    unlike: dict[str, list[str]] = {}  # titles of figures by the protocols that they were measured under
    chosen = chosen_figures(runs, figures, declared)
    beside = published_columns(rows, declared)
    for name in chosen:
        of_figure = figure_columns(name, figure(name, declared), rows, spread)
        columns += of_figure
        if len(of_figure) > 1:
            unlike.setdefault(unlike_protocols(of_figure), []).append(of_figure[0].title)
        columns += beside.pop(short(name), [])
    if figures is None or figures == ["all"]:  # also those that no run has measured yet
        columns += [column for pair in beside.values() for column in pair]
    notes += [said_unlike(titles, protocols) for protocols, titles in unlike.items()]
    own = [c for c in columns if c.protocol is not None and ", " in str(c.protocol.get("weights"))]
    if own:
        notes.append(f"{', '.join(c.label for c in own)}: each run's own weights, averaged ones if it has these")
    for fact in FACTS:
        if fill_fact(fact, rows):
            columns.append(speed_column(fact.column, rows) if fact.column.key == SPEED else fact.column)
    columns.append(Column("status", "status", "status"))
    for row in rows:
        row.cells["status"] = Cell(status_of(row.runs))
    if sort:
        sort_rows(rows, columns, sort)
    decisions = _decide(rows, columns, notes, sort, baseline)
    shared = {
        key: value
        for key in ("experiment", "model", "dataset")
        if key not in told and readable and (value := readable[0].choices.get(key))
    }
    return Table(columns, rows, shared, notes, spread, decisions, sort)


def _decide(
    rows: list[Row], columns: list[Column], notes: list[str], sort: str | None, baseline: str | None
) -> list[Decision]:
    """Compare the settings; with a baseline, its row comes first and each figure gets a column of differences."""
    measured = [column for column in columns if column.role == "figure"]
    if baseline is None:
        return [one for column in deciding(measured, sort) for one in with_the_best(rows, column)]
    if baseline == PUBLISHED:
        row = published_row(rows, measured)
        base = (
            "baseline=published: the runs reproduce no published value of one paper" if row is None else Baseline([row])
        )
    else:
        base = find_baseline(rows, columns, baseline)
    if isinstance(base, str):
        notes.append(base)
        return _decide(rows, columns, notes, sort, None)
    others = [row for row in rows if not any(row is one for one in base.rows)]
    of_base = [(one, [row for row in others if base.of(row) is one]) for one in base.rows]
    rest = [row for row in others if base.of(row) is None]
    rows[:] = [row for one, those in of_base for row in (one, *those)] + rest
    if not base.rows[0].runs:
        base.rows[0].cells[next(column.key for column in columns if column.role == "config")] = Cell(base.rows[0].label)
    decisions = against_baseline(rows, measured, base)
    beside = difference_columns(rows, measured, base, decisions)
    columns[:] = [one for column in columns for one in (column, beside.get(column.key)) if one is not None]
    return decisions
