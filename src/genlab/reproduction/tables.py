"""Tables in Markdown that are made of records."""

from collections.abc import Mapping
from fnmatch import fnmatch
from pathlib import Path

from genlab.errors import InputError
from genlab.metrics.catalogue import figure
from genlab.metrics.published import Verdict
from genlab.reproduction.listing import cost, status
from genlab.reproduction.recipes import Recipe
from genlab.reproduction.records import judged, records_of

TITLES = ("experiment", "figure", "published ± tolerance", "ours", "seeds", "training", "time", "verdict")


def results_table(patterns: str, recipes: Mapping[str, Recipe], results: Path) -> str:
    """Make the content of a block of results.

    Args:
        patterns: names of recipes, or patterns of names, between spaces.
        recipes: all recipes, by name.
        results: folder of all records.

    Raises:
        InputError: if a pattern matches no recipe.
    """
    chosen = {name: recipes[name] for pattern in patterns.split() for name in _matching(pattern, recipes)}
    return table(list(chosen.values()), results)


def _matching(pattern: str, recipes: Mapping[str, Recipe]) -> list[str]:
    matching = [name for name in recipes if fnmatch(name, pattern)]
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
                    verdict.measured,
                    str(verdict.seeds),
                    _training(verdict),
                    cost(records),
                    status(verdict, recipe, records),
                )
            )
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _training(verdict: Verdict) -> str:
    """Say how long the training was, compared with the published one."""
    if not verdict.seeds:
        return "-"
    return "to its end" if verdict.trained is None else f"{100 * verdict.trained:.0f} %"
