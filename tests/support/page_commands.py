"""Command lines of pages, changed so that a test can compose or run them."""

from collections.abc import Iterable

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob


def one_job(words: Iterable[str]) -> list[str]:
    """Give the first job of a sweep: the first value of each key; keys of open ranges and patterns are left out."""
    found = []
    for word in words:
        if word.startswith("-") or "=" not in word:
            found.append(word)
            continue
        (override,) = OverridesParser.create().parse_overrides([word])
        if override.is_choice_sweep() and not isinstance(override.value(), Glob):
            found.append(f"{override.get_key_element()}={next(override.sweep_string_iterator())}")
        elif not override.is_sweep_override():
            found.append(word)
    return found
