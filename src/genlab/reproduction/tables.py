"""Tables in Markdown that are made of records, between two marks in a page.

A block begins with a line ``<!-- results: uci_* static_made -->``, which names recipes or patterns of names, and ends
with ``<!-- /results -->``.
"""

import re
from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.metrics.catalogue import figure
from genlab.reproduction.listing import cost, measured, status
from genlab.reproduction.recipes import Recipe
from genlab.reproduction.records import judged, records_of

BLOCK = re.compile(
    r"(?P<begin>^<!-- results: (?P<names>[^\n]*?) -->\n).*?(?P<end>^<!-- /results -->)", re.DOTALL | re.MULTILINE
)
TITLES = ("experiment", "figure", "published", "ours", "seeds", "training", "time", "verdict")


def pages(folder: Path) -> list[Path]:
    """List the pages of a checkout that may hold tables: ``README.md`` and ``docs/*.md``."""
    return [path for path in (folder / "README.md", *sorted((folder / "docs").glob("*.md"))) if path.is_file()]


def with_tables(text: str, recipes: Mapping[str, Recipe], results: Path) -> str:
    """Replace the content of every block in a page by a table made of records.

    Args:
        text: page in Markdown.
        recipes: all recipes, by name.
        results: folder of all records.

    Raises:
        InputError: if a block names no recipe.
    """

    def filled(found: re.Match[str]) -> str:
        chosen = [recipe for pattern in found["names"].split() for recipe in _matching(pattern, recipes)]
        return f"{found['begin']}\n{table(chosen, results)}\n{found['end']}"

    return BLOCK.sub(filled, text)


def _matching(pattern: str, recipes: Mapping[str, Recipe]) -> list[Recipe]:
    matching = [recipe for name, recipe in recipes.items() if fnmatch(name, pattern)]
    if not matching:
        raise InputError(f"results: {pattern} is the name of no recipe")
    return matching


def table(recipes: list[Recipe], results: Path) -> str:
    """Make a table in Markdown with one row for each published figure of the recipes."""
    rows = [TITLES, ("---",) * len(TITLES)]
    for recipe in recipes:
        records = records_of(recipe.name, results)
        for name, verdict in judged(recipe.published, records).items():
            rows.append(
                (
                    f"`{recipe.experiment}`",
                    figure(name).label,
                    f"{recipe.published.figures[name]:g} ± {recipe.published.tolerance[name].value:g}",
                    measured(verdict),
                    str(verdict.seeds),
                    "to its end" if verdict.trained is None else f"{100 * verdict.trained:.0f} %",
                    cost(records),
                    status(verdict, recipe, records),
                )
            )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def write_tables(folder: Path, recipes: Mapping[str, Recipe], results: Path) -> list[Path]:
    """Rewrite the blocks of all pages of a checkout, and return the pages that changed."""
    changed = []
    for path in pages(folder):
        before = path.read_text(encoding="utf-8")
        if (after := with_tables(before, recipes, results)) != before:
            write_atomically(path, after)
            changed.append(path)
    return changed
