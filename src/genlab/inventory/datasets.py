"""The list of data sets, from ``conf/dataset`` and the classes that its files name."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genlab.inventory.classes import about
from genlab.inventory.comments import sizes_in, sources_in, what_it_is
from genlab.inventory.options import Option, options
from genlab.machine.listing import Column, Listing

OWN, OF_RUN, DOWNLOADED, EMBEDDED = "your own", "a run of yours", "downloaded", "embedded"


def _sides(shape: Any) -> str:
    """Write a shape, with ``*`` for a size that the config does not state."""
    if not isinstance(shape, list):
        return "*"
    return " x ".join(str(size) if isinstance(size, int) else "*" for size in shape)


_COLUMNS = (
    Column("name", "dataset="),
    Column("what", "what it is"),
    Column("kind", "kind"),
    Column("shape", "shape", _sides),
    Column("sizes", "examples"),
    Column("origin", "from"),
    Column("sources", "source", lambda sources: "; ".join(sources) or "-"),
)


def datasets(roots: Sequence[Path], words: Sequence[str] = ()) -> Listing:
    """List data sets with their kind, shape, sizes, origin and sources.

    Args:
        roots: folders of configs: ``conf/``, and those of the user's own.
        words: only data sets with one of these in their name; empty for all.

    Raises:
        InputError: if a config is not YAML.
    """
    known = {option.name: option for option in options("dataset", roots)}
    found = [option for name, option in known.items() if not words or any(word in name for word in words)]
    notes = [
        f"genlab train dataset=NAME ...; {len(found)} data sets",
        "*: depends on your data, on the run, or on other keys of the data set",
    ]
    return Listing(_COLUMNS, [_row(option, known) for option in found], notes)


def _row(option: Option, known: Mapping[str, Option]) -> dict[str, Any]:
    content = option.content
    return {
        "name": option.name,
        "what": what_it_is(option.comments[0]) or None,
        "kind": content.get("kind"),
        "shape": content.get("shape") if isinstance(content.get("shape"), list) else None,
        "sizes": _sizes(option, known),
        "origin": _origin(option, known),
        "sources": _sources(option),
    }


def _of(option: Option, known: Mapping[str, Option]) -> Option | None:
    """Give the data set that a data set is made of, such as the one whose colours are reduced; None if of none."""
    return known.get(str(option.choices.get("/dataset@of")))


def _source(option: Option) -> Mapping[str, Any]:
    source = option.content.get("source")
    return source if isinstance(source, Mapping) else {}


def _origin(option: Option, known: Mapping[str, Option]) -> str:
    """Tell where the examples come from, by what the config must be given or where its source has its files."""
    if (of := _of(option, known)) is not None:
        return _origin(of, known)
    if option.content.get("run") == "???":
        return OF_RUN
    source = _source(option)
    return OWN if source.get("path") == "???" else DOWNLOADED if "root" in source else EMBEDDED


def _sizes(option: Option, known: Mapping[str, Option]) -> str | None:
    """Give the sizes of the splits as a comment states them, or else the shares that are held out."""
    stated = next((sizes for comment in option.comments if (sizes := sizes_in(comment)) is not None), None)
    if stated is None and (of := _of(option, known)) is not None:
        return _sizes(of, known)
    held = {split: option.content.get(f"{split}_size") for split in ("val", "test")}
    shares = [f"{100 * size:g} % {split}" for split, size in held.items() if isinstance(size, float)]
    if stated is None and len(shares) == len(held):
        return f"held out: {', '.join(shares)}"
    return stated


def _sources(option: Option) -> list[str]:
    """List the sources that the comments name, or else the docstrings of the class that reads the data."""
    target = str(_source(option).get("_target_") or option.content.get("_target_") or "")
    described = about(target)
    texts = (*option.comments, described.docstring, described.module)
    return next((sources for text in texts if (sources := sources_in(text))), [])
