"""Complete groups of configs and their options, level by level, from the files in ``conf/`` alone."""

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from pathlib import Path

_LIST = re.compile(r"^defaults:[^\n]*\n((?:[ \t]*(?:-|#)[^\n]*\n|[ \t]*\n)*)", re.MULTILINE)
# An entry is a group with its option, or another file: "override /gan/loss@loss: hinge", "train".
_ENTRY = re.compile(r"^[ \t]*- (?:override )?(/?)([\w/]+)(?:@[\w.]+)?[ \t]*(:?)", re.MULTILINE)


class Groups:
    """The groups that a command's config may choose from.

    Args:
        command: name of the command, such as ``train``.
        roots: folders of configs: ``conf/``, and those of the user's own.
    """

    def __init__(self, command: str, roots: Sequence[Path]) -> None:
        self.command, self.roots = command, roots

    @cached_property
    def names(self) -> set[str]:
        """Names of the groups, such as ``model`` and ``gan/loss``: all that can be chosen after any choice."""
        found, files = set[str](), [(Path(), f"{self.command}.yaml")]
        for folder, name in files:  # grows while it is read
            for root in self.roots:
                for group, included in _defaults(root / folder / name, folder):
                    if included is not None and (included.parent, included.name) not in files:
                        files.append((included.parent, included.name))
                    if group is not None and group not in found:
                        found.add(group)
                        of_group = [path.relative_to(r) for r in self.roots for path in Path(r, group).rglob("*.yaml")]
                        files += [(path.parent, path.name) for path in of_group]
        found.discard("hydra")  # genlab has one configuration of it, and no options
        found |= {str(path.relative_to(root)) for root in self.roots for path in root.glob("hydra/*") if path.is_dir()}
        return {name for name in found if any((root / name).is_dir() for root in self.roots)}

    def group_of(self, key: str) -> str | None:
        """Give the group that an override's key names, also if it is spelled as ``metrics.features``."""
        key = key.lstrip("+~").partition("@")[0]
        return next((name for name in (key, key.replace(".", "/")) if name in self.names), None)

    def complete(self, word: str) -> list[str]:
        """Complete the name of a group to its equals sign, a part of it to its slash.

        Args:
            word: beginning of the name, perhaps after ``+`` or ``~``.
        """
        sign = word[: len(word) - len(word.lstrip("+~"))]
        found = set()
        for name in self.names:
            start = word[len(sign) :]
            if name.startswith(start) and (start or not name.startswith("hydra/")):
                rest = name[len(start) :]
                found.add(f"{start}{rest.partition('/')[0]}/" if "/" in rest else f"{name}=")
        return [sign + name for name in sorted(found)]

    def options(self, group: str, start: str) -> list[str]:
        """Complete an option of a group; a folder of options ends with a slash, an option with a space.

        Args:
            group: name of the group.
            start: beginning of the option, such as ``gan/d``; after a comma, another option begins.
        """
        before, comma, start = start.rpartition(",")
        inside, _, start = start.rpartition("/")
        found = set()
        for root in self.roots:
            folder = root / group / inside
            for path in folder.iterdir() if folder.is_dir() else ():
                name = str(path.relative_to(root))
                if path.suffix == ".yaml":
                    found.add(f"{path.stem} ")
                elif path.is_dir() and name not in self.names and any(path.rglob("*.yaml")):
                    found.add(f"{path.name}/")
        prefix = before + comma + (f"{inside}/" if inside else "")
        return [prefix + name for name in sorted(found) if name.startswith(start)]


def _defaults(path: Path, folder: Path) -> Iterable[tuple[str | None, Path | None]]:
    """Read the entries of a file's defaults list: a group, or the path of another file."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError):
        return
    for block in _LIST.findall(text):
        for absolute, name, colon in _ENTRY.findall(block):
            place = Path(name) if absolute else folder / name
            if colon:
                yield str(place), None
            elif name != "_self_":
                yield None, place.with_suffix(".yaml")
