"""Translate what users write on the command line into Hydra's syntax."""

import re
import sys
from collections.abc import Iterable
from pathlib import Path

from genlab.composition.configs import conf_dir
from genlab.composition.renamed_groups import say_new_names
from genlab.errors import InputError


def as_groups(overrides: Iterable[str]) -> list[str]:
    """Rewrite overrides in Hydra's syntax.

    - ``metrics.features=mnist`` becomes ``metrics/features=mnist`` because ``conf/metrics/features`` is a group; Hydra
      would set the key to the string ``"mnist"``.
    - ``sampling.num_steps=8`` becomes ``++sampling.num_steps=8``: no config lists the sampling settings, because each
      model's class has its own.
    - ``trust=one,two`` becomes ``trust=[one,two]``; Hydra would read a sweep.
    - A group's old name is replaced by its new one, and a line on stderr says so.

    Args:
        overrides: overrides as the user wrote them.
    """
    spelled = []
    for override in say_new_names(overrides):
        key, equals, value = override.partition("=")
        if equals and key.startswith("sampling."):
            key = f"++{key}"
        if key == "trust" and "," in value and value[0] not in "[{'\"":
            value = f"[{value}]"  # a list and no sweep
        names_option = equals and "." in key and re.fullmatch(r"[\w,]+", value)
        if names_option and Path(conf_dir(), *key.split(".")).is_dir():
            key = key.replace(".", "/")
        spelled.append(key + equals + value)
    return spelled


def flags_as(*keys: str) -> None:
    """Turn ``--format json`` and ``--format=json`` in ``sys.argv`` into Hydra's ``format=json``.

    Args:
        *keys: config keys that may be given as flags.

    Raises:
        InputError: if a flag has no value.
    """
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
    """Turn ``sampling.num_steps=4,8`` in ``sys.argv`` into a list, ``sampling.num_steps=[4,8]``.

    Hydra would read the comma as a sweep.

    Args:
        prefix: beginning of the keys whose values may be lists, such as ``"sampling."``.
    """
    arguments = []
    for word in sys.argv[1:]:
        key, equals, value = word.partition("=")
        if equals and key.lstrip("+").startswith(prefix) and "," in value and value[0] not in "[{'\"":
            word = f"{key}=[{value}]"
        arguments.append(word)
    sys.argv = [sys.argv[0], *arguments]


def _quoted(text: str) -> str:
    """Quote a text for Hydra's grammar, whatever characters it contains."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def _is_path(argument: str) -> bool:
    """Tell whether an argument is a path: no ``key=value``, no flag and no deletion (``~metrics.measures.kid``)."""
    return "=" not in argument and not argument.startswith("-") and not re.match(r"~[^/]", argument)


def paths_as(key: str) -> None:
    """Turn the bare arguments of ``sys.argv``, which are paths, into ``key=[...]``, quoted for Hydra's grammar.

    Args:
        key: config key that takes the list of paths.
    """
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
