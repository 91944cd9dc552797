"""What a command tells the program that called it: collected while it runs, printed as one line of JSON at its end."""

import json
import math
from collections.abc import Mapping
from typing import Any

_told: dict[str, Any] = {}
_for_program = False


def tell(**facts: Any) -> None:
    """Add facts to what the command tells; a later value of a key replaces an earlier one.

    Args:
        **facts: values that JSON has, or whose text is meant.
    """
    _told.update(facts)


def told() -> dict[str, Any]:
    """Give what was told since :func:`forget`."""
    return dict(_told)


def forget(for_program: bool = False) -> None:
    """Forget what an earlier command of this process told.

    Args:
        for_program: whether a program called the command that begins now, which then asks nothing.
    """
    global _for_program
    _told.clear()
    _for_program = for_program


def is_for_program() -> bool:
    """Tell whether a program called the command, with ``--json``."""
    return _for_program


def as_line(content: Mapping[str, Any]) -> str:
    """Write facts as one line of JSON; numbers that JSON lacks become the texts ``nan``, ``inf`` and ``-inf``."""
    return json.dumps(_plain(content), default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
