"""Overrides that a run was started with, read from its folder: what they may say when they are composed again."""

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from genlab.composition.explaining import first_line
from genlab.composition.trained import has_given, remember_override
from genlab.errors import InputError

# The value of another key, such as ${dataset.num_classes}. Anything else in ${...} calls a resolver.
_OTHER_KEY = re.compile(r"\$\{\.*[A-Za-z_][\w.\[\]]*\}")
# Keys of a command, not of a run.
_OF_THE_COMMAND = ("trust", "resume", "sweep.resume")


def checked_overrides(overrides: Any, source: str | Path, changes: Iterable[str] = ()) -> list[str]:
    """Check the overrides in a run's ``status.json``, which may be a stranger's, before they are composed again.

    What they name as ``_target_`` is not checked here but in the config that they give.

    Args:
        overrides: content of the file.
        source: path of the file, for error messages.
        changes: the user's overrides, which come after these. One that is refused is left out if they replace it.

    Returns:
        The overrides, without those that are about the command.

    Raises:
        InputError: if they are no overrides, set anything of Hydra's, or call a resolver, which may read the environment.
    """
    if not isinstance(overrides, list) or not all(isinstance(o, str) for o in overrides):
        raise InputError(f"{source} is damaged (its overrides are no list of texts)")
    replaced = {_key(change) for change in changes}
    given = HydraConfig.get().overrides.task if HydraConfig.initialized() else []
    kept = []
    for text in overrides:
        if _key(text) in _OF_THE_COMMAND:
            continue
        if text not in given and not has_given(text) and (reason := _refusal(text)) is not None:
            if _key(text) in replaced:
                continue
            raise InputError(f"{source}: {text}: {reason}")
        kept.append(text)
    return kept


def remember_overrides(overrides: Iterable[str]) -> None:
    """Remember those of the user's overrides that would be refused in a stranger's run.

    Args:
        overrides: overrides that a run of this user is started with.
    """
    for text in overrides:
        if _refusal(text) is not None:
            remember_override(text)


def _key(override: str) -> str:
    return override.partition("=")[0].lstrip("+~").partition("@")[0]


def _refusal(text: str) -> str | None:
    """Say why a stranger's override is refused; None if it is not."""
    try:
        override = OverridesParser.create().parse_override(text)
    except HydraException as error:
        return f"this is no override ({first_line(error)})"
    if override.is_sweep_override():
        return "this is a sweep, and a run has one value"
    where = f"{override.key_or_group}@{override.package or ''}"
    if "hydra" in re.split(r"[^\w]", where):
        return "a run has no settings of Hydra"
    values = list(_texts(override))
    if "." not in override.key_or_group and any(Path(v).is_absolute() or ".." in Path(v).parts for v in values):
        return "a config is chosen from conf/, not from elsewhere"
    if any("${" in _OTHER_KEY.sub("", value) for value in [text, *values]):
        return (
            "this may read your environment, and the run was not started here; give the value yourself, as "
            f"{_key(text)}=..."
        )
    return None


def _texts(override: Override) -> Iterator[str]:
    """Iterate over the texts in an override's value, as they are after Hydra's escapes are read."""
    from hydra.core.override_parser.types import QuotedString

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
