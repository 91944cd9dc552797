"""Parts that a config names, such as callbacks and regularizers: a part without ``_target_`` was not chosen.

An experiment, or a model's file, may set what a part would do (``training.regularizers.r1.every=16``). If the part is
then left out, what was set for it remains in the config, and nothing is built from it.
"""

import dataclasses
import inspect
import types
import typing
from collections.abc import Mapping
from typing import Any

# Groups of parts by their keys; every other part of a config is built, or refused.
GROUPS = (
    "callbacks",
    "logger",
    "metrics.measures",
    "callbacks.sample_metrics.measures",
    "training.regularizers",
    "training.generator_regularizers",
)
SINGLE = ("training.augment",)  # parts that may be left out


def named(group: Mapping[str, Any] | None) -> list[tuple[str, Any]]:
    """Select the nodes of a group, such as the callbacks, that are to be built; null entries are skipped too.

    Args:
        group: nodes of the config by name.
    """
    return [(name, node) for name, node in (group or {}).items() if node and "_target_" in node]


def without_unchosen(value: Any, annotation: Any) -> Any:
    """Leave out the parts that were not chosen from the value of an argument that takes built parts.

    Args:
        value: plain value from a config.
        annotation: type of the argument.

    Returns:
        For an argument of type ``Mapping[str, SomeClass]``, the mapping without nodes that have no ``_target_``; for
        one of type ``SomeClass | None``, None instead of such a node; any other value as it is.
    """
    if not isinstance(value, Mapping) or "_target_" in value:
        return value
    options = _options(annotation)
    for option in options:
        if isinstance(origin := typing.get_origin(option), type) and issubclass(origin, Mapping):
            arguments = typing.get_args(option)
            if len(arguments) == 2 and any(map(_is_built, _options(arguments[1]))):
                return {name: node for name, node in value.items() if not _is_unchosen(node)}
    if type(None) in options and any(map(_is_built, options)) and _is_unchosen(value):
        return None
    return value


def _options(annotation: Any) -> tuple[Any, ...]:
    if typing.get_origin(annotation) is typing.Annotated:
        return _options(typing.get_args(annotation)[0])
    return typing.get_args(annotation) if _is_union(annotation) else (annotation,)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _is_built(annotation: Any) -> bool:
    """Tell whether a type is a class whose objects a ``_target_`` makes, and not a plain value or a mapping."""
    return (
        inspect.isclass(annotation)
        and typing.get_origin(annotation) is None
        and annotation.__module__ not in ("builtins", "typing", "collections.abc", "pathlib")
        and not typing.is_typeddict(annotation)
        and not dataclasses.is_dataclass(annotation)
    )


def _is_unchosen(node: Any) -> bool:
    return isinstance(node, Mapping) and "_target_" not in node
