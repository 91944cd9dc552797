"""Python's keyword arguments as the overrides of a command line."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genlab.composition.free_text import quoted
from genlab.errors import InputError

_WORD = re.compile(r"[A-Za-z_][\w./-]*")
_OTHERWISE = {"true", "false", "null", "nan", "inf", "yes", "no", "on", "off"}  # words that are read as other values


def as_overrides(keys: Mapping[str, Any]) -> list[str]:
    """Write keyword arguments as overrides: ``model__latent_dim=8`` stands for ``model.latent_dim=8``.

    Args:
        keys: values by keyword. Two underscores stand for a dot; a mapping stands for the keys in it.

    Raises:
        InputError: if a value is of a type that no config has.
    """
    found: list[str] = []
    for keyword, value in keys.items():
        key = keyword.replace("__", ".")
        if isinstance(value, Mapping) and value:
            found += [f"{key}.{override}" for override in as_overrides(value)]
        else:
            found.append(f"{key}={_spelled(value, key)}")
    return found


def _spelled(value: Any, key: str) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, int | float):
        return repr(value) if math.isfinite(value) else str(value)
    if isinstance(value, str | Path):
        text = str(value)
        return text if _WORD.fullmatch(text) and text.lower() not in _OTHERWISE else quoted(text)
    if isinstance(value, list | tuple):
        return f"[{','.join(_spelled(inner, key) for inner in value)}]"
    if isinstance(value, Mapping):
        return "{}"
    raise InputError(f"{key}: a config has no {type(value).__name__}; give a text, a number, a list or a mapping")
