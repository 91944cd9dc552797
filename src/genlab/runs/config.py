"""A run's saved config: reading it, flattening its keys, and making its paths comparable with those of other runs."""

import os
import re
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from genlab.composition.trust import check_resolved, vetted
from genlab.errors import InputError
from genlab.runs.folder import CONFIG, RunFolder
from genlab.runs.moved import current

# The parts of a run's config that are mappings, or null.
_NODES = ("model", "dataset", "metrics", "sampling", "callbacks", "logger", "trainer", "training", "choices")
# Characters of a config that may be nested too deeply, the levels that it may have, and the values.
_LONG, _DEEPEST, _MOST = 10_000, 32, 100_000
# What stands for the data folder in the config of a run that is kept beside its record.
KEPT_DATA = "data"


def read_config(folder: RunFolder) -> dict[str, Any]:
    """Read the config that a run was saved with, and update the import paths of classes that have moved since.

    It is to be looked at; :func:`config_to_build` gives one whose objects may be built.

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


def config_to_build(folder: RunFolder) -> dict[str, Any]:
    """Read a run's saved config as :func:`read_config` does, and check that what it names may be built.

    Args:
        folder: folder of the run, which may be a stranger's.

    Raises:
        InputError: if the file is missing or damaged, or names code that is neither genlab's nor trusted.
    """
    path = folder.path / CONFIG
    config = read_config(folder)
    wrong = [key for key in ("model", "dataset") if not isinstance(config.get(key), dict)]
    wrong += [key for key in _NODES if not isinstance(config.get(key), dict | None) and key not in wrong]
    if wrong:
        raise InputError(f"{path} is damaged: it has no {' and no '.join(wrong)}")
    check_resolved(str(folder.path), "the folder's name")
    return vetted(config, path)


def read_yaml(path: Path) -> dict[str, Any]:
    """Read a YAML file of plain values, as OmegaConf writes and reads them, with the fast C parser if it is installed.

    Args:
        path: path of the file.

    Raises:
        InputError: if the file is missing or damaged.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        if len(text) > _LONG and _is_deep(text):  # the C parser overflows the stack, and kills Python
            raise ValueError("it is nested too deeply")
        content = yaml.load(text, _loader())
        if not isinstance(content, dict):
            raise ValueError("not a mapping")
        _check_plain(content)
    except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} is damaged ({reason})") from error
    return content


@cache
def _loader() -> Any:
    """Give PyYAML's safe loader with OmegaConf's rules: ``1e-3`` is a number, and ``2026-01-01`` is a text."""
    import yaml

    class Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
        pass

    resolvers = {
        first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
        for first, known in Loader.yaml_implicit_resolvers.items()
    }
    Loader.yaml_implicit_resolvers = resolvers
    Loader.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"[-+]?(?:[0-9][0-9_]*\.?[0-9_]*|\.[0-9][0-9_]*)[eE][-+]?[0-9]+$"),
        list("-+0123456789."),
    )
    return Loader


def _check_plain(content: Any) -> None:
    """Raise ValueError unless a file's content is plain values: no dates or sets, and neither deep nor endless."""
    count, waiting = 0, [(content, 0)]
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > _DEEPEST or count > _MOST:
            raise ValueError("it is nested without end")
        if isinstance(value, dict):
            if strange := [key for key in value if not isinstance(key, str | int | float)]:
                raise ValueError(f"it has the key {strange[0]!r}")
            waiting += [(part, depth + 1) for part in value.values()]
        elif isinstance(value, list):
            waiting += [(part, depth + 1) for part in value]
        elif not isinstance(value, str | int | float | None):
            raise ValueError(f"it holds a {type(value).__name__}")


def _is_deep(text: str) -> bool:
    """Tell whether a YAML text has more levels of nesting than a config, reading one event after another."""
    import yaml

    depth = 0
    for event in yaml.parse(text, _loader()):
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


def with_data_of_this_machine(config: Mapping[str, Any]) -> dict[str, Any]:
    """Copy a config with the data folder of this machine in place of ``data``, which stands for it in kept runs.

    Args:
        config: saved config. In that of a run that was not moved the data folder is absolute, and stays.
    """
    here = os.environ.get("GENLAB_DATA", KEPT_DATA)

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: moved(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [moved(inner) for inner in value]
        is_within = isinstance(value, str) and (value == KEPT_DATA or value.startswith(f"{KEPT_DATA}/"))
        return here + value[len(KEPT_DATA) :] if is_within else value

    if (config.get("paths") or {}).get("data_dir") != KEPT_DATA:
        return dict(config)
    return {**config, "dataset": moved(config.get("dataset") or {})}


def portable(config: Mapping[str, Any], folder: RunFolder) -> dict[str, Any]:
    """Copy a run's config with the paths of this machine replaced by relative ones.

    Args:
        config: config of the run.
        folder: folder of the run.
    """
    paths = config.get("paths") or {}
    places = {str(config.get("run_dir") or folder.path): "."}
    for key, name in (("data_dir", KEPT_DATA), ("output_dir", "outputs"), ("cache_dir", "~/.cache/genlab")):
        if paths.get(key):
            places[str(paths[key])] = name

    def moved(value: Any) -> Any:
        if isinstance(value, Mapping):
            return {key: moved(inner) for key, inner in value.items()}
        if isinstance(value, list):
            return [moved(inner) for inner in value]
        if isinstance(value, str):
            for place, name in places.items():
                if value == place or value.startswith(place + os.sep):
                    return name + value[len(place) :]
        return value

    return {key: moved(value) for key, value in config.items()}
