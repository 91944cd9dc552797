"""What this user has trained with on this machine, remembered outside of run folders, so that own runs open again.

The folder ``trained`` in genlab's cache (``GENLAB_CACHE``, or ``~/.cache/genlab``) has a small file for each config
node with foreign code, named by the sha256 of its content. Its arguments are part of it: somebody who once trained with
``torch.hub.load`` of one repository has not trusted another one. Files of other users, in a shared cache, do not count.
"""

import hashlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genlab.machine.files import write_atomically

# Those of this process, which hold even if the cache cannot be written.
texts: set[str] = set()


def remember_node(node: Mapping[str, Any], run_dir: str | None) -> None:
    """Remember that the user has trained with a node of a config.

    Args:
        node: config of something with its ``_target_``, as plain values.
        run_dir: folder of the run, where the node may have paths.
    """
    text = _text(node, run_dir)
    if _is_remembered(text):
        return
    texts.add(text)
    path = _file(text)
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_atomically(path, text + "\n")
    except OSError as error:
        print(f"genlab: {path.parent} cannot be written ({error}): this run will ask for trust=", file=sys.stderr)


def has_trained_with(node: Mapping[str, Any], run_dir: str | None) -> bool:
    """Tell whether the user has trained with a node of a config.

    Args:
        node: config of something with its ``_target_``, as plain values.
        run_dir: folder of the run, where the node may have paths.
    """
    return _is_remembered(_text(node, run_dir))


def _text(node: Mapping[str, Any], run_dir: str | None) -> str:
    """Write a node in one line; nodes inside of it have texts of their own, and a run's folder may move."""

    def short(value: Any, top: bool = False) -> Any:
        if isinstance(value, Mapping):
            if not top and "_target_" in value:
                return {"_target_": str(value["_target_"])}
            return {str(key): short(part) for key, part in value.items()}
        if isinstance(value, list | tuple):
            return [short(part) for part in value]
        if isinstance(value, str) and run_dir and value.startswith(run_dir):
            return f"run_dir{value[len(run_dir) :]}"
        return value

    return json.dumps(short(node, top=True), sort_keys=True, default=str)


def _file(text: str) -> Path:
    folder = Path(os.environ.get("GENLAB_CACHE") or "~/.cache/genlab").expanduser()
    return folder / "trained" / f"{hashlib.sha256(text.encode()).hexdigest()}.json"


def _is_remembered(text: str) -> bool:
    if text in texts:
        return True
    path = _file(text)
    try:
        return path.stat().st_uid == os.getuid() and path.read_text(encoding="utf-8") == text + "\n"
    except (OSError, ValueError):
        return False
