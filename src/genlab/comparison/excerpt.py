"""The table of a page that is made of kept run folders: chosen columns, and the commits of the runs."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from genlab.comparison.cells import Table
from genlab.comparison.facts import FACTS
from genlab.comparison.formats import markdown
from genlab.comparison.places import expanded
from genlab.comparison.runs import Run, read_run
from genlab.comparison.table import compared
from genlab.errors import InputError
from genlab.metrics.figure import short
from genlab.runs.folder import find_runs


def runs_table(arguments: str, root: Path) -> str:
    """Make the content of a block of runs: a row for each setting, with mean and standard error over its seeds.

    Args:
        arguments: folders of runs relative to ``root``, then ``|``, then names of figures and facts, and after another
            ``|`` a baseline: ``benchmarks/points/ring2d | modes, kl_to_uniform, parameters | toy/gan``.
        root: folder of the checkout.

    Raises:
        InputError: if there are no runs, a run is not finished, or no run has one of the figures.
    """
    folders, names, baseline = [*map(str.strip, arguments.split("|")), "", ""][:3]
    columns = [name.strip() for name in names.split(",") if name.strip()]
    runs = [read_run(folder) for folder in find_runs(expanded([str(root / folder) for folder in folders.split()]))]
    if not runs or not columns:
        raise InputError(f"runs: {arguments}: {'no columns are named' if runs else 'there are no runs'}")
    for run in runs:
        if run.status != "done":
            raise InputError(f"runs: {run.path} is {run.status}{f' ({run.reason})' if run.reason else ''}, not done")
    # As each run measured itself at its end: later evaluations, under other settings, would be columns of their own.
    runs = [replace(run, results={name: [result] for name, result in run.trained.items()}) for run in runs]
    facts = {fact.column.key for fact in FACTS}
    table = compared(runs, [name for name in columns if name not in facts], spread="sem", baseline=baseline or None)
    table = _with_columns(table, columns)
    return markdown(replace(table, notes=[*table.notes, _commits(runs)]))


def _with_columns(table: Table, names: Sequence[str]) -> Table:
    """Keep the columns of settings and seeds, and then the named ones in their order."""
    kept = [column for column in table.columns if column.role in ("config", "seeds")]
    for name in names:
        found = [c for c in table.columns if name in (c.key, *(short(key) for key in (c.key, c.key.partition("[")[0])))]
        if not found:
            raise InputError(f"runs: there is no column {name}")
        kept += found
    return replace(table, columns=kept)


def _commits(runs: Sequence[Run]) -> str:
    """Name the commits of runs; one with a plus says little, because files of its checkout were changed."""
    commits = [str((run.summary.get("environment") or {}).get("commit") or "unknown") for run in runs]
    changed = sum(commit.endswith("+") for commit in commits)
    note = f"; +: files of the checkout were changed since ({changed} of {len(commits)} runs)" if changed else ""
    return f"commits: {', '.join(sorted(set(commits)))}{note}"
