"""The first part of ``genlab COMMAND --help``: the command's own options, in the words of the comments in ``conf/``."""

import re
import shutil
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

from genlab.composition.configs import conf_dir

_KEY = re.compile(r"^(?P<indent> *)(?P<key>\w+):(?: (?P<value>.*?))??(?: *# (?P<comment>.*))?$")
_GROUP = re.compile(r"^ +- (?:override )?(?P<group>[\w/]+): ")
_NOT_SHOWN = ("paths", "hydra")


def own_help(command: str, flags: Sequence[str]) -> str | None:
    """Describe a command: how it is called, its options and the choices of its groups; None if it has no config.

    Args:
        command: name of the command, such as ``"sample"``.
        flags: the command's options that may be written as flags, such as ``"--format"``.
    """
    path = Path(conf_dir(), f"{command}.yaml")
    if not path.is_file():
        return None
    text = path.read_text(encoding="utf-8")
    options = list(own_options(text))
    parts = [head(text, is_whole=True), "Options (key=value):\n" + _columns(options)]
    if flags:
        parts.append(f"Of these, as flags too: {', '.join(flags)}")
    for group in _groups(text):
        texts = {file.stem: file.read_text(encoding="utf-8") for file in _files(group)}
        if len(texts) == 1:  # nothing to choose, but keys to set
            (only,) = texts.values()
            known = {key for key, _ in options}
            further = [row for row in own_options(only, f"{group}.") if row[0] not in known]
            parts.append(f"Options of {group}:\n" + _columns(further))
        elif texts:
            parts.append(f"{group}=NAME:\n" + _columns([(name, head(text)) for name, text in texts.items()]))
    return "\n\n".join(parts)


def head(text: str, is_whole: bool = False) -> str:
    """Give the comment at the top of a config, or its first sentence.

    Args:
        text: content of the file.
        is_whole: whether to give all lines as they are.
    """
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @package"):
            lines.append(line.removeprefix("#").removeprefix(" "))
    return "\n".join(lines) if is_whole else re.split(r"(?<=[\w\])])\. |\.$", " ".join(lines))[0]


def own_options(text: str, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give the keys of a command's config, each with what it means and its default; keys without words are left out.

    Args:
        text: content of the config; what a key means is the comment above it, or else beside it.
        prefix: what stands before the names of the keys.
    """
    above, path = list[str](), list[str]()
    for line in text.splitlines():
        if line.lstrip().startswith("# "):
            above.append(line.lstrip(" #"))
            continue
        if found := _KEY.match(line):
            path = [*path[: len(found["indent"]) // 2], found["key"]]
            words = " ".join(above) or found["comment"] or ""
            if found["value"] and words:
                default = "to be given" if found["value"] == "???" else f"default: {found['value']}"
                yield prefix + ".".join(path), f"{words} ({default})"
        above = []


def _groups(text: str) -> list[str]:
    found = [match["group"] for line in text.splitlines() if (match := _GROUP.match(line))]
    return [group for group in dict.fromkeys(found) if group not in _NOT_SHOWN]


def _files(group: str) -> list[Path]:
    return sorted(Path(conf_dir(), group).glob("*.yaml"))


def _columns(rows: Sequence[tuple[str, str]]) -> str:
    width = min(100, shutil.get_terminal_size((100, 24)).columns)
    first = max(len(name) for name, _ in rows) + 4
    return "\n".join(
        textwrap.fill(
            words,
            max(width, first + 30),
            initial_indent=f"  {name}".ljust(first),
            subsequent_indent=" " * first,
            break_on_hyphens=False,
        )
        for name, words in rows
    )
