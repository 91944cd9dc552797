"""A run's config as flat keys, and what of it is not the run's own."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.runs.folder import CONFIG, RunFolder
from genlab.runs.moved import current


def read_config(folder: RunFolder) -> dict[str, Any]:
    """Read the config that a run was saved with, naming every class by its import path of today.

    Raises:
        InputError: if the file is missing or damaged.
    """
    config: dict[str, Any] = current(read_yaml(folder.path / CONFIG))
    return config


def read_yaml(path: Path) -> dict[str, Any]:
    """A file of plain values, by the quick parser where there is one.

    Raises:
        InputError: where it is damaged.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        content = yaml.load(path.read_text(), loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (not a mapping)")
    return content


def flat(node: Any, prefix: str = "", dot: str = ".") -> dict[str, Any]:
    """``{"model": {"width": 8}}`` as ``{"model.width": 8}``; lists stay values, and an empty mapping has no keys."""
    if isinstance(node, Mapping):
        return {
            k: v
            for key, value in node.items()
            for k, v in flat(value, f"{prefix}{dot}{key}" if prefix else str(key), dot).items()
        }
    return {prefix: node}


def within(config: Mapping[str, Any]) -> dict[str, Any]:
    """A flat config, with paths in the run folder told from there: it may have been moved, or named relatively."""
    folder = config.get("run_dir")
    return {
        key: "run_dir" + value[len(folder) :]
        if folder and isinstance(value, str) and value.startswith(folder)
        else value
        for key, value in config.items()
    }


def below(key: str, prefixes: Iterable[str]) -> bool:
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
