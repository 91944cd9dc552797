"""A run's saved config: reading it, flattening its keys, and making its paths comparable with those of other runs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.runs.folder import CONFIG, RunFolder
from genlab.runs.moved import current

_LONG, _DEEPEST = 10_000, 100  # characters of a config that may be nested too deeply, and the levels it may have


def read_config(folder: RunFolder) -> dict[str, Any]:
    """Read the config that a run was saved with, and update the import paths of classes that have moved since.

    Args:
        folder: folder of the run.

    Raises:
        InputError: if the file is missing or damaged.
    """
    try:
        config: dict[str, Any] = current(read_yaml(folder.path / CONFIG))
    except RecursionError:
        raise InputError(f"{folder.path / CONFIG} is damaged (it is nested too deeply)") from None
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of plain values, with the fast C parser if it is installed.

    Args:
        path: path of the file.

    Raises:
        InputError: if the file is missing or damaged.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > _LONG and _is_deep(text, loader):  # the C parser overflows the stack, and kills Python
            raise ValueError("it is nested too deeply")
        content = yaml.load(text, loader)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:  # a date such as 2026-13-01 is a ValueError
        raise InputError(f"{path} is damaged ({(str(error).splitlines() or [type(error).__name__])[0]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (not a mapping)")
    return content


def _is_deep(text: str, loader: Any) -> bool:
    """Tell whether a YAML text has more levels of nesting than a config, reading one event after another."""
    import yaml

    depth = 0
    for event in yaml.parse(text, loader):
        depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if depth > _DEEPEST:
            return True
    return False


def flat(node: Any, prefix: str = "", dot: str = ".") -> dict[str, Any]:
    """Flatten ``{"model": {"width": 8}}`` to ``{"model.width": 8}``; lists stay values, empty mappings disappear.

    Args:
        node: nested config, as plain values.
        prefix: key of the node, put before all of its keys.
        dot: separator of the keys.
    """
    if isinstance(node, Mapping):
        return {
            k: v
            for key, value in node.items()
            for k, v in flat(value, f"{prefix}{dot}{key}" if prefix else str(key), dot).items()
        }
    return {prefix: node}


def within(config: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the run folder at the beginning of paths by ``run_dir``, in a flat config.

    Configs of one run then stay equal if its folder is moved, or is given as a relative path.
    """
    folder = config.get("run_dir")
    return {
        key: "run_dir" + value[len(folder) :]
        if folder and isinstance(value, str) and value.startswith(folder)
        else value
        for key, value in config.items()
    }


def below(key: str, prefixes: Iterable[str]) -> bool:
    """Tell whether a flat key is one of some keys, or lies below one of them."""
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
