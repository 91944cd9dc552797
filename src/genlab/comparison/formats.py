"""Text formats of a comparison: terminal, Markdown, CSV, JSON and LaTeX."""

import csv
import io
import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import Any

from genlab.comparison.cells import Cell, Column, Decision, Row, Table
from genlab.comparison.decisions import about_intervals, said, sentences
from genlab.comparison.facts import SPEED
from genlab.machine.console import LiteralConsole, console, styled
from genlab.machine.listing import inert, literal
from genlab.machine.plain_text import on_one_line
from genlab.metrics.figure import short

NOTHING = Cell("-")
NUMBERS = ("figure", "difference", "published", "fact")  # roles of columns of numbers


def on_terminal(table: Table) -> None:
    """Print a table with the best value of each column marked, and a description of the figures below it.

    If the terminal is too narrow, facts are left out first, then figures from the last to the first, those without a
    published value before the others; a note lists what was left out.
    """
    columns, left_out = list(table.columns), list[Column]()
    shown, width = _rich(table, columns)
    out = console(at_least=width)
    beside = {c.key for c in columns if c.role == "published"}
    figures = [c for c in columns if c.role == "figure"]
    figures.sort(key=lambda c: f"{short(c.key.partition('[')[0])}_published" not in beside)
    differences = {c.key: c for c in columns if c.role == "difference"}
    droppable = [one for c in figures[2:] for one in (c, differences.get(f"difference/{c.key}")) if one is not None] + [
        c for c in columns if c.role == "fact"
    ]
    while width > out.width and droppable:
        left_out.insert(0, droppable.pop())
        columns.remove(left_out[0])
        shown, width = _rich(table, columns)
    if width > out.width:
        shown, width = _rich(table, columns, broken=True)
    if table.shared:
        out.print("all: " + ", ".join(f"{key}={value}" for key, value in table.shared.items()), highlight=False)
    out.print(shown)
    for sentence in sentences(said(table)):
        out.print(styled(sentence, "bold"))
    notes = [*table.notes, *descriptions(replace(table, columns=columns))]
    if left_out:
        notes.append(f"left out, because the terminal is too narrow: {', '.join(column.label for column in left_out)}")
    for note in notes:
        out.print(note, highlight=False)


def _rich(table: Table, columns: Sequence[Column], broken: bool = False) -> tuple[Any, int]:
    """Build the Rich table, and compute its width without line breaks, but for those behind the dots of its heads."""
    from rich.measure import Measurement
    from rich.table import Table as Rich

    shown = Rich()
    for column in columns:
        label = column.label.replace(".", ".\n") if broken else column.label
        shown.add_column(label, justify="right" if column.role in NUMBERS else "left", overflow="fold")
    for row in table.rows:
        cells = [row.cells.get(column.key, NOTHING) for column in columns]
        shown.add_row(*(styled(c.text, "bold green") if c.best else c.text for c in cells))
    unbounded = LiteralConsole(width=10_000)
    return shown, Measurement.get(unbounded, unbounded.options, shown).maximum


def descriptions(table: Table) -> list[str]:
    """Describe each figure in a line, its protocol and direction of improvement, and then the signs of the table."""
    better = {"min": "lower is better", "max": "higher is better", None: ""}
    figures = [column for column in table.columns if column.role == "figure"]
    marks: dict[tuple[str, str], list[str]] = {}  # of the columns that a figure and its description have
    for c in figures:
        description = "; ".join(filter(None, (_of_all(table, c), better[c.better])))
        marks.setdefault((c.title, description), []).append(c.mark)
    lines = [f"{' '.join([name, ', '.join(of)]).rstrip()}: {text}" for (name, text), of in marks.items()]
    return [*lines, *signs(table)]


def signs(table: Table) -> list[str]:
    """Explain the signs of a table, such as ≤ and ±, a line each."""
    lines = []
    if any(cell.text.startswith("≤") for row in table.rows for cell in row.cells.values()):
        lines.append("≤: an upper bound")
    for c in (c for c in table.columns if c.key == SPEED):
        lines.append(f"{c.title}: of training alone, without validation and pictures, which the wall time includes")
    if any(c.role == "published" for c in table.columns):
        lines.append("published: the published value ± the tolerance within which a result counts as the same")
    if (about := about_intervals(table)) is not None:
        lines.append(about)
    if any(cell.num > 1 for row in table.rows for cell in row.cells.values()):
        of = {"std": "the standard deviation of one run over seeds", "sem": "the standard error of the mean over seeds"}
        lines.append(f"±: {of[table.spread]}")
    return lines


def _of_all(table: Table, column: Column) -> str:
    """Give a column's description without the parts that differ between models, such as the kind of likelihood."""
    words = re.sub(r"(exact|[\w-]+ bound)(, [\d,]+ draws)?, ", "", column.description or "")
    return words.removeprefix(f"{column.title}; ")


def markdown(table: Table) -> str:
    """Format a table as Markdown, with the best values in bold and the notes as a list."""

    def row(cells: list[str]) -> str:
        return "| " + " | ".join(cells) + " |"

    def shown(cell: Cell) -> str:
        return f"**{literal(cell.text)}**" if cell.best else literal(cell.text)

    lines = [row([literal(c.label) for c in table.columns])]
    lines.append("|" + "|".join(" ---: " if c.role in NUMBERS else " --- " for c in table.columns) + "|")
    for r in table.rows:
        lines.append(row([shown(r.cells.get(c.key, NOTHING)) for c in table.columns]))
    said_below = [*sentences(said(table)), *table.notes, *descriptions(table)]
    return "\n".join([*lines, "", *(f"- {literal(note)}" for note in said_below)]) + "\n"


def comma_separated(table: Table) -> str:
    """Format a table as CSV with unrounded numbers.

    A figure with several seeds has two more columns: its standard deviation and its number of seeds.
    """
    heads: list[str] = []
    takers: list[Callable[[Row], Any]] = []

    def add(head: str, take: Callable[[Cell], Any], key: str) -> None:
        heads.append(head)
        takers.append(lambda row: take(row.cells[key]) if key in row.cells else "")

    for column in table.columns:
        if column.role in NUMBERS:
            add(column.key, lambda cell: cell.value, column.key)
        else:
            add(column.key, lambda cell: cell.text, column.key)
        if column.role == "figure" and any(r.cells.get(column.key, NOTHING).num > 1 for r in table.rows):
            add(f"{column.key} std", lambda cell: "" if cell.std is None else cell.std, column.key)
            add(f"{column.key} n", lambda cell: cell.num, column.key)
        if column.role == "difference":
            add(
                f"{column.key} ±",
                lambda cell: "" if cell.difference is None else cell.difference.half_width,
                column.key,
            )
            add(f"{column.key} verdict", lambda cell: cell.text.rpartition(" ")[2], column.key)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(map(inert, [*heads, "folders"]))
    for row in table.rows:
        cells = [*(take(row) for take in takers), " ".join(str(run.path) for run in row.runs)]
        writer.writerow(map(inert, cells))
    return text.getvalue()


def as_json(table: Table) -> str:
    """Format a table as JSON, including the protocols and the values of single runs."""

    def finite(value: float | None) -> float | str | None:
        return str(value) if value is not None and not math.isfinite(value) else value

    def cell(of: Cell) -> dict[str, Any]:
        return {"text": of.text, "value": finite(of.value), "std": finite(of.std), "n": of.num, "best": of.best}

    content = {
        "shared": table.shared,
        "columns": [
            {
                "key": c.key,
                "title": c.label,
                "kind": c.role,
                "unit": c.unit,
                "better": c.better,
                "protocol": c.protocol,
            }
            for c in table.columns
        ],
        "rows": [
            {
                "label": row.label,
                "cells": {key: cell(of) for key, of in row.cells.items()},
                "runs": [
                    {
                        "folder": str(run.path),
                        "seed": run.seed,
                        "status": run.status,
                        "reason": run.reason,
                        "command": run.command,
                        "figures": {name: finite(result.value) for name, result in run.figures.items()},
                    }
                    for run in row.runs
                ],
            }
            for row in table.rows
        ],
        "decisions": [decision_as_json(one) for one in table.decisions],
        "notes": table.notes,
    }
    return json.dumps(content, indent=2, default=str, allow_nan=False) + "\n"


def decision_as_json(decision: Decision) -> dict[str, Any]:
    """Convert a decision to plain values: the settings, the difference with its interval, and the sentence."""
    found = decision.difference
    interval = {} if found is None else {**asdict(found), "separable": found.separable}
    about = {"figure": decision.column, "setting": decision.setting, "against": decision.against}
    return {**about, **interval, "better": decision.better, "sentence": decision.sentence}


def latex(table: Table) -> str:
    """Format a table as a LaTeX tabular for booktabs; the status column is left out if all runs are done."""
    columns = [c for c in table.columns if c.role != "status" or any(_unfinished(row) for row in table.rows)]
    align = "".join("r" if c.role in NUMBERS else "l" for c in columns)
    arrow = {"min": r" $\downarrow$", "max": r" $\uparrow$", None: ""}
    lines = [f"\\begin{{tabular}}{{{align}}}", r"\toprule"]
    heads = [_escaped(c.label) + (arrow[c.better] if c.role == "figure" else "") for c in columns]
    lines += [" & ".join(heads) + r" \\", r"\midrule"]
    for row in table.rows:
        cells = [row.cells.get(c.key, NOTHING) for c in columns]
        texts = [_escaped(cell.text) for cell in cells]
        lines.append(
            " & ".join(f"\\textbf{{{t}}}" if c.best else t for t, c in zip(texts, cells, strict=True)) + r" \\"
        )
    lines += [r"\bottomrule", r"\end{tabular}"]
    return (
        "\n".join(
            [
                *lines,
                *(f"% {on_one_line(note)}" for note in [*sentences(said(table)), *table.notes, *descriptions(table)]),
            ]
        )
        + "\n"
    )


def _unfinished(row: Row) -> bool:
    return any(run.status != "done" for run in row.runs)


_LATEX = {
    "\\": r"\textbackslash{}",
    "≤": r"$\leq$",
    "±": r"$\pm$",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    **{sign: "\\" + sign for sign in "&%$#_{}"},
}


def _escaped(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in on_one_line(text))


FORMATS: dict[str, Callable[[Table], str]] = {
    "markdown": markdown,
    "csv": comma_separated,
    "json": as_json,
    "latex": latex,
}
