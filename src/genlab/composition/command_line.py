"""What users write on a command line, in Hydra's spelling."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from genlab.composition.configs import conf_dir
from genlab.errors import InputError


def as_groups(overrides: Iterable[str]) -> list[str]:
    """Overrides with ``metrics.features=mnist``, which names a file of ``conf/metrics/features``, in Hydra's spelling.

    Hydra would set the key to the word instead.
    """
    spelled = []
    for override in overrides:
        key, equals, value = override.partition("=")
        names_option = equals and "." in key and re.fullmatch(r"[\w,]+", value)
        if names_option and Path(conf_dir(), *key.split(".")).is_dir():
            key = key.replace(".", "/")
        spelled.append(key + equals + value)
    return spelled


def flags_as(*keys: str) -> None:
    """Turn ``--format json`` and ``--format=json`` on a command line into Hydra's ``format=json``."""
    arguments, words = [], iter(sys.argv[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if name.removeprefix("--") in keys and name.startswith("--"):
            key = name.removeprefix("--")
            if not equals and (value := next(words, "")) == "":
                raise InputError(f"{name} needs a value")
            word = f"{key}={_quoted(value)}"
        arguments.append(word)
    sys.argv = [sys.argv[0], *arguments]


def _quoted(text: str) -> str:
    """For Hydra's grammar, whatever signs are in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _is_path(argument: str) -> bool:
    """Whether an argument is no ``key=value``, no flag and no deletion, such as ``~metrics.measures.kid``."""
    return "=" not in argument and not argument.startswith("-") and not re.match(r"~[^/]", argument)


def paths_as(key: str) -> None:
    """Turn a command line's bare arguments, which are paths, into ``key=[...]``, quoted for Hydra's grammar."""
    takes_value = {
        "--cfg",
        "-c",
        "--package",
        "-p",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--config-dir",
        "-cd",
    }
    words = zip(sys.argv, sys.argv[1:], strict=False)
    paths = [a for before, a in words if _is_path(a) and before not in takes_value]
    if paths:
        sys.argv = [
            sys.argv[0],
            f"{key}=[{','.join(map(_quoted, paths))}]",
            *(a for a in sys.argv[1:] if a not in paths),
        ]
