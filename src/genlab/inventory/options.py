"""The options of a group of configs, each with the files that it includes; nothing is composed."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genlab.inventory.comments import comment_of
from genlab.runs.config import read_yaml


@dataclass(frozen=True)
class Option:
    """An option of a group, such as ``vae/vae`` of ``model``.

    Attributes:
        name: name on the command line.
        comments: comment at the top of its file, and then those of the files that it includes.
        content: values of the file over those of the files that it includes, without interpolation.
        choices: options that its defaults list chooses, by the group and package that it names: ``{"/dataset@of":
            "cifar10"}``.
    """

    name: str
    comments: tuple[str, ...]
    content: Mapping[str, Any]
    choices: Mapping[str, Any] = field(default_factory=dict)


def options(group: str, roots: Sequence[Path]) -> list[Option]:
    """List the options of a group by name.

    Args:
        group: name of the group, such as ``"model"``.
        roots: folders of configs; of options with the same name, that of the first folder counts, as in Hydra.

    Raises:
        InputError: if a file is not YAML.
    """
    files = {
        path.relative_to(root / group).with_suffix("").as_posix(): path
        for root in reversed(roots)
        for path in (root / group).rglob("*.yaml")
    }
    return [_read(name, files) for name in sorted(files)]


def _read(name: str, files: Mapping[str, Path], depth: int = 10) -> Option:
    path = files[name]
    own = read_yaml(path)
    comments, content, choices = [comment_of(path.read_text(encoding="utf-8"))], dict[str, Any](), dict[str, Any]()
    for entry in own.pop("defaults", None) or ():
        if isinstance(entry, Mapping):
            choices.update({str(key).removeprefix("override "): value for key, value in entry.items()})
        elif entry != "_self_" and (included := _included(str(entry), name, files)) is not None and depth > 0:
            parent = _read(included, files, depth - 1)
            comments += parent.comments
            content, choices = _over(content, parent.content), {**parent.choices, **choices}
    return Option(name, tuple(comments), _over(content, own), choices)


def _included(entry: str, name: str, files: Mapping[str, Path]) -> str | None:
    """Find the option that an entry of a defaults list names: from the group's folder, or from that of the option."""
    folder = name.rpartition("/")[0]
    absolute = entry.removeprefix("/").partition("/")[2] if entry.startswith("/") else None
    candidates = (absolute, entry, f"{folder}/{entry}" if folder else None)
    return next((one for one in candidates if one in files and one != name), None)


def _over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay values over others, key by key."""
    merged = dict(below)
    for key, value in above.items():
        before = merged.get(key)
        merged[key] = _over(before, value) if isinstance(before, Mapping) and isinstance(value, Mapping) else value
    return merged
