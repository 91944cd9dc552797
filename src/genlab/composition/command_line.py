"""What users write on a command line, in Hydra's spelling."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from genlab.composition.configs import conf_dir
from genlab.composition.renamed_groups import say_new_names
from genlab.errors import InputError


def as_groups(overrides: Iterable[str]) -> list[str]:
    """Overrides in Hydra's spelling.

    ``metrics.features=mnist`` names a file of ``conf/metrics/features``; Hydra would set the key to the word instead.
    ``sampling.num_steps=8`` adds a key that no config has, for the settings of sampling are those of the model's class.
    A group's old name is replaced by its new one, which is printed.
    """
    spelled = []
    for override in say_new_names(overrides):
        key, equals, value = override.partition("=")
        if equals and key.startswith("sampling."):
            key = f"++{key}"
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


def lists_of(prefix: str) -> None:
    """Turn ``sampling.num_steps=4,8`` on a command line into a list, ``sampling.num_steps=[4,8]``.

    Hydra would take it for a sweep.

    Args:
        prefix: beginning of the keys, ``"sampling."``.
    """
    arguments = []
    for word in sys.argv[1:]:
        key, equals, value = word.partition("=")
        if equals and key.lstrip("+").startswith(prefix) and "," in value and value[0] not in "[{'\"":
            word = f"{key}=[{value}]"
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
