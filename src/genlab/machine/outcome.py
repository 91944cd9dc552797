"""What a command tells the program that called it: collected while it runs, printed as one line of JSON at its end."""

import json
import math
from collections.abc import Mapping
from typing import Any

_told: dict[str, Any] = {}


def tell(**facts: Any) -> None:
    """Add facts to what the command tells; a later value of a key replaces an earlier one.

    Args:
        **facts: values that JSON has, or whose text is meant.
    """
    _told.update(facts)


def told() -> dict[str, Any]:
    """Give what was told since :func:`forget`."""
    return dict(_told)


def forget() -> None:
    """Forget what an earlier command of this process told."""
    _told.clear()


def as_line(content: Mapping[str, Any]) -> str:
    """Write facts as one line of JSON; numbers that JSON lacks become the texts ``nan``, ``inf`` and ``-inf``."""
    return json.dumps(_plain(content), default=str, allow_nan=False)


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
