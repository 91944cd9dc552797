"""Overrides that a run was started with, read from its folder: what they may say when they are composed again."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override, QuotedString
from hydra.errors import HydraException

from genlab.composition.explaining import first_line
from genlab.composition.trust import shown
from genlab.errors import InputError

# Keys of a command, not of a run.
_OF_THE_COMMAND = ("trust", "force", "resume", "sweep.resume")
# Keys at the top that are no groups, and may have any text.
_TEXTS = ("name", "tags", "group", "init")


def checked_overrides(overrides: Any, source: str | Path) -> list[str]:
    """Check the overrides in a run's ``status.json``, which may be a stranger's, before they are composed again.

    What they name as ``_target_`` is not checked here but in the config that they give.

    Args:
        overrides: content of the file.
        source: path of the file, for error messages.

    Returns:
        The overrides, without those that are about the command.

    Raises:
        InputError: if they are no overrides, set anything of Hydra's, choose a config that lies elsewhere, or are not
            resolved, as genlab saves them.
    """
    if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
        raise InputError(f"{source} is damaged (its overrides are no list of texts)")
    kept = [text for text in overrides if text.partition("=")[0].lstrip("+~") not in _OF_THE_COMMAND]
    for text in kept:
        if (reason := _refusal(text)) is not None:
            raise InputError(f"{source}: {shown(text)}: {reason}")
    return kept


def _refusal(text: str) -> str | None:
    """Say why an override is refused; None if it is not."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        return f"this is no override ({first_line(error)})"
    if override.is_sweep_override():
        return "this is a sweep, and a run has one value"
    where = f"{override.key_or_group}@{override.package or ''}"
    if "hydra" in re.split(r"\W", where):
        return "a run has no settings of Hydra"
    values = list(_texts(override))
    may_choose = "." not in override.key_or_group and override.key_or_group not in _TEXTS
    if may_choose and any(Path(v).is_absolute() or ".." in Path(v).parts for v in values):
        return "a config is chosen from conf/, not from elsewhere"
    if any("${" in value for value in [text, *values]):
        return "the overrides of a run are resolved, and no ${...} in them is looked up"
    return None


def _texts(override: Override) -> Iterator[str]:
    """Iterate over the texts in an override's value, as they are after Hydra's escapes are read."""

    def inside(value: Any) -> Iterator[str]:
        if isinstance(value, QuotedString):
            yield value.text
        elif isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            for key, part in value.items():
                yield from inside(key)
                yield from inside(part)
        elif isinstance(value, list):
            for part in value:
                yield from inside(part)

    yield from inside(override._value)
    yield from inside(override.value())
