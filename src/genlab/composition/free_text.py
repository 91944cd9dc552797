"""Quote free text and paths on the command line, so that Hydra's grammar takes them as they are.

Hydra reads ``prompt=To be, or not`` as a sweep, ``prompt=1.50`` as a number and ``real=photos (1)`` as an error. The
values of the keys below are text, so those that Hydra would change are quoted. A value that the user has quoted for
Hydra (``"prompt='To be'"``) stays as it is, and so does ``null``.
"""

import re
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from genlab.composition.configs import conf_dir
from genlab.errors import InputError

# Text that is taken to the letter: neither a comma nor ${...} means anything in it.
TEXTS = {"prompt", "text.prompt", "title"}
# The last part of every key that holds a path (dataset.source.path, dataset.of.source.root), or a name. In these,
# ${...} is an interpolation, and in a sweep a comma separates values.
PATHS = {
    "path",
    "root",
    "run",
    "runs",
    "resume",
    "init",
    "output",
    "html",
    "checkpoint",
    "real",
    "fake",
    "dir",
    "store",
}
NAMES = {"name", "group", "entity", "project", "notes"}
PATH_ENDINGS = ("_dir", "_path", "_file")
# Keys that hold paths in one command, or below one key, and other things elsewhere.
OF_COMMAND = {"evaluate": {"images"}, "sample": {"against", "redraw"}}
# Of these, the ones that may be a list of numbers instead, which is no path.
OR_NUMBERS = {"redraw"}
BELOW = {"features.weights"}
# Keys that may hold a list of paths or names.
LISTS = {
    "train": {"tags"},
    "benchmark": {"tags"},
    "evaluate": {"run"},
    "sample": {"against"},
    "compare": {"runs"},
    "dashboard": {"runs"},
}
NOT_SWEPT = {"sweep.resume"}

_KEY = re.compile(r"\+{0,2}([A-Za-z_$][\w.$-]*)=", re.ASCII)
QUOTED = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"", re.DOTALL)
_PART = re.compile(rf"\s*({QUOTED.pattern}|[^,]*?)\s*(,|\Z)", re.DOTALL)
_SWEEP = re.compile(r"(choice|range|interval|glob|shuffle|sort|tag)\s*\(.*\)", re.DOTALL)


def quoted(text: str) -> str:
    """Quote a text for Hydra's grammar, whatever characters it contains."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text, Quote.single).with_quotes()


def escaped(text: str) -> str:
    """Escape a text for OmegaConf, so that ``${`` is no interpolation; backslashes before it are doubled."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", text)


def with_quotes(command: str, arguments: Iterable[str]) -> list[str]:
    """Quote the values of the keys that take free text or paths, where Hydra would not read them as they are.

    Args:
        command: command that the arguments are for, such as ``"sample"``.
        arguments: arguments after the command, as the user wrote them.

    Raises:
        InputError: if an argument is not in UTF-8, or a path is empty.
    """
    words = list(arguments)
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError:
            raise InputError(f"the argument {word!a} is not in UTF-8: rename the file") from None
    sweeping = _is_sweep(words)
    return [_with_quotes(command, word, sweeping) for word in words]


def _with_quotes(command: str, word: str, sweeping: bool) -> str:
    if (found := _KEY.match(word)) is None:
        return word
    key, before, value = found[1], found[0], word[found.end() :]
    last = key.rpartition(".")[2]
    if key in LISTS.get(command, ()) and (items := _listed(value)) is not None:
        return f"{before}[{','.join(map(_spelled, items))}]"
    if key in TEXTS:
        if value == "null" or QUOTED.fullmatch(value):
            return word
        return before + _spelled(escaped(value))
    if not (
        last in PATHS | NAMES
        or last.endswith(PATH_ENDINGS)
        or key in OF_COMMAND.get(command, ())
        or any(f".{key}".endswith(f".{name}") for name in BELOW)
    ):
        return word
    if key in OR_NUMBERS and re.match(r"\s*\[", value) and not _exists(value):
        return word
    if value == "" and last not in NAMES:
        raise InputError(f"{key}= is empty: give a path, or leave {key} out")
    if value == "null":
        return word
    if sweeping and key not in NOT_SWEPT:
        parts = _parts(value)
        return word if _SWEEP.fullmatch(value) or "" in parts else before + ",".join(map(_spelled, parts))
    return before + _spelled(value)


def _spelled(text: str) -> str:
    """Give a text as Hydra has to be told it: in quotes, unless it has them, or is read as it is without them."""
    return text if QUOTED.fullmatch(text) or _is_read_as_it_is(text) else quoted(text)


def _is_read_as_it_is(text: str) -> bool:
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return bool(OverridesParser.create().parse_override(f"key={text}").value() == text)
    except HydraException:
        return False


def _listed(value: str) -> list[str] | None:
    """Split ``[a, 'b']`` into its items; None if it is no list, but null or the path of something that exists."""
    inner = re.fullmatch(r"\s*\[(.*)\]\s*", value, re.DOTALL)
    if inner is None or _exists(value):
        return None
    return [] if not inner[1].strip() else _parts(inner[1])


def _parts(text: str) -> list[str]:
    """Split a text at its commas, but for those in quotes; blanks around the parts are dropped."""
    parts, at = [], 0
    while (found := _PART.match(text, at)) is not None:
        parts.append(found[1])
        at = found.end()
        if found[2] == "":
            break
    return parts


def _exists(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (OSError, ValueError):  # a name that is too long
        return False


def _is_sweep(words: list[str]) -> bool:
    """Tell whether commas separate the values of a sweep: with ``-m``, or in an experiment that is one."""
    if any(word in ("-m", "--multirun") or re.fullmatch(r"\+*hydra\.mode=MULTIRUN", word) for word in words):
        return True
    folders = [
        conf_dir(),
        *(after for flag, after in pairwise(words) if flag in ("-cd", "--config-dir")),
    ]
    folders += [word.partition("=")[2] for word in words if word.startswith("--config-dir=")]
    chosen = [word.partition("=")[2] for word in words if re.match(r"\+*experiment=", word)]
    return any(
        re.search(r"^\s*mode:\s*MULTIRUN\b", path.read_text(encoding="utf-8", errors="replace"), re.MULTILINE)
        for folder in folders
        for name in chosen
        if (path := Path(folder, "experiment", f"{name}.yaml")).is_file()
    )
