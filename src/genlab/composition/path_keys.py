"""Which config values are paths of data: by one rule, whatever the class that takes them."""

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

# Parts of a run that read data, and the names under which constructors take paths. What a run writes lies in its own
# folder, and is not among these.
PARTS = ("dataset", "tokenizer", "metrics", "model", "training", "distribution")
NAMES = ("path", "root", "run")
# Names under which some constructors take a path, and others the name of something that genlab has.
PERHAPS = ("weights", "file", "folder", "dir", "directory")
_ENDINGS = tuple(f"_{name}" for name in (*NAMES, *PERHAPS))


def is_path(key: str, value: object) -> bool:
    """Tell whether a config value is the path of a file or a folder, by its key and by how it looks.

    Args:
        key: flat key of the value, such as ``dataset.of.source.path``.
        value: value, without interpolations.
    """
    part, _, _ = key.partition(".")
    last = key.rpartition(".")[2]
    if key == "init":
        return isinstance(value, str) and bool(value)
    if part not in PARTS or not isinstance(value, str) or not value or re.match(r"\w+://", value):
        return False
    if last in NAMES:
        return True
    if last == "cache_dir" or (last not in PERHAPS and not last.endswith(_ENDINGS)):
        return False
    return "/" in value or Path(value).suffix != "" or Path(value).is_dir()


def paths_in(node: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Give the flat key and the value of every path in a nested config.

    Args:
        node: config as plain values.
        prefix: flat key of the config.
    """
    items = node.items() if isinstance(node, Mapping) else enumerate(node) if isinstance(node, list) else ()
    for name, value in items:
        key = f"{prefix}.{name}" if prefix else str(name)
        if isinstance(value, Mapping | list):
            yield from paths_in(value, key)
        elif is_path(key, value):
            yield key, value
