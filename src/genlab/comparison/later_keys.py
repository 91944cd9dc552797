"""Runs of an earlier version beside runs of a later one, whose configs have more keys."""

from collections.abc import Collection, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from genlab.composition.configs import conf_dir
from genlab.runs.config import read_yaml


def with_later_keys(config: Mapping[str, Any], overrides: Collection[str] = (), prefix: str = "") -> dict[str, Any]:
    """A nested config, its objects completed by the keys that they lack and all of ``conf/`` agrees on.

    A new key comes into ``conf/`` with the value of what was done before there was a choice; a run from then is of one
    setting with a run that was told so.

    Args:
        overrides: keys that the run was started with; of these nothing is assumed.
        prefix: of this config's keys among them.
    """
    complete = {
        key: with_later_keys(value, overrides, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
    }
    for key, value in _agreed().get(str(config.get("_target_")), {}).items():
        if f"{prefix}{key}" not in overrides:
            complete.setdefault(key, value)
    return complete


@cache
def _agreed() -> dict[str, dict[str, Any]]:
    """By ``_target_``, the plain values that every mention of it in ``conf/`` states, and states alike."""
    agreed: dict[str, dict[str, Any]] = {}
    for path in sorted(Path(conf_dir()).rglob("*.yaml")):
        for target, values in _objects(read_yaml(path)):
            before = agreed.setdefault(target, values)
            agreed[target] = {key: value for key, value in before.items() if key in values and values[key] == value}
    return agreed


def _objects(node: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    found = [pair for value in node.values() if isinstance(value, Mapping) for pair in _objects(value)]
    if isinstance(target := node.get("_target_"), str):
        found.append((target, {key: _as_composed(value) for key, value in node.items() if _is_plain(value)}))
    return found


def _is_plain(value: Any) -> bool:
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, Mapping) and not (isinstance(value, str) and ("${" in value or value == "???"))


def _as_composed(value: Any) -> Any:
    """Hydra reads ``1e-3`` as a number, YAML 1.1 as text."""
    if isinstance(value, list):
        return [*map(_as_composed, value)]
    try:
        return float(value) if isinstance(value, str) else value
    except ValueError:
        return value
