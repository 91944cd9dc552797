"""The list of models, from ``conf/model`` and the classes that its files name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from genlab.inventory.classes import about
from genlab.inventory.comments import paper_in, what_it_is
from genlab.inventory.options import Option, options
from genlab.machine.listing import Column, Listing

_COLUMNS = (
    Column("name", "model="),
    Column("family", "family", is_spare=True),
    Column("what", "what it is"),
    Column("paper", "paper"),
    Column("arxiv", "arXiv"),
    Column("kinds", "data"),
)
_OF_IMAGES = ("image", "binary")  # what a class takes that does not say it, as models.base declares


def models(roots: Sequence[Path], words: Sequence[str] = ()) -> Listing:
    """List models with their papers and the kinds of data that they take.

    Args:
        roots: folders of configs: ``conf/``, and those of the user's own.
        words: only models with one of these in their name; empty for all.

    Raises:
        InputError: if a config is not YAML.
    """
    found = [option for option in options("model", roots) if not words or any(word in option.name for word in words)]
    return Listing(_COLUMNS, [_row(option) for option in found], [f"genlab train model=NAME ...; {len(found)} models"])


def _row(option: Option) -> dict[str, Any]:
    node = option.content.get("model")
    target = str(node.get("_target_", "")) if isinstance(node, dict) else ""
    paper = paper_in(option.comments[0])
    kinds = about(target).kinds if target else None
    return {
        "name": option.name,
        "family": option.name.rpartition("/")[0] or None,
        "what": what_it_is(option.comments[0]) or None,
        "paper": None if paper is None else paper.title if paper.arxiv else str(paper),
        "arxiv": None if paper is None else paper.arxiv,
        "kinds": sorted(kinds or _OF_IMAGES),
        "class": target or None,
    }
