"""The table of a comparison as a pandas DataFrame."""

from typing import Any

from genlab.comparison.formats import NUMBERS, decision_as_json
from genlab.comparison.table import Table
from genlab.runs.frames import with_pandas


def frame(table: Table) -> Any:
    """Give a comparison's table as a DataFrame with a row per setting and unrounded numbers.

    The columns are those of ``format=csv``: a key in which the runs differ, a figure under one protocol, or a fact of
    the training. A figure has the column ``<figure> std`` beside it, its standard deviation over the seeds, and
    ``<figure> n``, the number of seeds. With a baseline, ``difference/<figure>`` is the difference from it, and
    ``difference/<figure> ±`` half of its confidence interval. The last column, ``folders``, lists the run folders.
    ``attrs`` of the frame has what all runs share (``shared``), the warnings (``notes``), the protocol of each figure
    (``protocols``), and for each pair of settings what the seeds say (``decisions``, as in ``format=json``).

    Args:
        table: comparison.

    Raises:
        InputError: if pandas is not installed.
    """
    pandas = with_pandas("a table")
    rows = []
    for row in table.rows:
        found: dict[str, Any] = {}
        for column in table.columns:
            cell = row.cells.get(column.key)
            if column.role in NUMBERS:
                found[column.key] = None if cell is None else cell.value
            else:
                found[column.key] = None if cell is None else cell.text
            if column.role == "figure":
                found[f"{column.key} std"] = None if cell is None else cell.std
                found[f"{column.key} n"] = 0 if cell is None else cell.num
            if column.role == "difference":
                found[f"{column.key} ±"] = cell.difference.half_width if cell and cell.difference else None
        rows.append({**found, "folders": [str(run.path) for run in row.runs]})
    made = pandas.DataFrame(rows)
    numbers = [f"{c.key}{of}" for c in table.columns if c.role in NUMBERS for of in ("", " std", " ±")]
    for name in set(numbers) & set(made.columns):
        made[name] = made[name].astype(float)
    made.attrs = {
        "shared": table.shared,
        "notes": table.notes,
        "protocols": {column.key: column.protocol for column in table.columns if column.role == "figure"},
        "decisions": [decision_as_json(one) for one in table.decisions],
    }
    return made
