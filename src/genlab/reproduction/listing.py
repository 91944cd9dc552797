"""The list of all recipes with their verdicts."""

from collections.abc import Iterable
from pathlib import Path

from genlab.machine.console import console
from genlab.metrics.catalogue import figure
from genlab.metrics.published import Verdict, of_values
from genlab.reproduction.recipes import Recipe
from genlab.reproduction.records import Record, judged, records_of


def print_list(recipes: Iterable[Recipe], results: Path) -> None:
    """Print a table of recipes: family, published figures with tolerances, ours, cost and verdict.

    Args:
        recipes: recipes to list.
        results: folder of all records.
    """
    from rich.markup import escape
    from rich.table import Table

    table = Table()
    for title in ("recipe", "family", "figure", "published", "tolerance", "ours", "seeds", "cost", "verdict"):
        table.add_column(title, overflow="fold")
    for recipe in recipes:
        records = records_of(recipe.name, results)
        if not recipe.block and records:
            found = of_values([record.figures[records[0].main_figure].value for record in records])
            label = figure(records[0].main_figure).label
            row = (label, "-", "-", found.measured, str(found.seeds), cost(records), "no published figure")
            table.add_row(recipe.name, recipe.family, *row)
        for name, verdict in judged(recipe.published, records).items():
            tolerance = recipe.published.tolerance[name]
            table.add_row(
                recipe.name,
                recipe.family,
                figure(name).label,
                f"{recipe.published.figures[name]:g}",
                f"{tolerance.value:g}{'' if tolerance.side == 'both' else ', worse side'}",
                verdict.measured,
                str(verdict.seeds),
                cost(records),
                escape(status(verdict, recipe, records)),
            )
    console().print(table)


def cost(records: Iterable[Record]) -> str:
    """Give the CPU time of a run as text, or its wall time if that is not known, averaged over the records.

    Other work on the machine changes the wall time, but hardly the CPU time. Without records, the text is a dash.
    """
    trainings = [record.content["training"] for record in records]
    seconds = [one.get("cpu_seconds") or one["wall_seconds"] for one in trainings]
    if not seconds:
        return "-"
    mean = sum(seconds) / len(seconds)
    return f"{mean:.0f} s" if mean < 120 else f"{mean / 60:.0f} min" if mean < 7200 else f"{mean / 3600:.1f} h"


def status(verdict: Verdict, recipe: Recipe, records: Iterable[Record]) -> str:
    """Give the verdict as text, with a note if the published block was written or changed after a run had begun."""
    hashes = {record.sha256 for record in records}
    notes = ["reference written after the result"] if None in hashes else []
    notes += ["reference changed after the result"] if hashes - {None, recipe.sha256} else []
    return "; ".join([str(verdict), *notes])
