"""A run's saved config: reading it, flattening its keys, and making its paths comparable with those of other runs."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.runs.folder import CONFIG, RunFolder
from genlab.runs.moved import current


def read_config(folder: RunFolder) -> dict[str, Any]:
    """Read the config that a run was saved with, and update the import paths of classes that have moved since.

    Args:
        folder: folder of the run.

    Raises:
        InputError: if the file is missing or damaged.
    """
    config: dict[str, Any] = current(read_yaml(folder.path / CONFIG))
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
        content = yaml.load(path.read_text(encoding="utf-8"), loader)
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]})") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} is damaged (not a mapping)")
    return content


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
