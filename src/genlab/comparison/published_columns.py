"""Columns of published figures and of the verdicts on them."""

from collections.abc import Mapping, Sequence

from genlab.comparison.cells import Cell, Column, Row
from genlab.metrics.catalogue import figure
from genlab.metrics.figure import Figure


def published_columns(rows: Sequence[Row], declared: Mapping[str, Figure]) -> dict[str, list[Column]]:
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
