"""An exported run folder: its weights are a safetensors file, and ``export.json`` says where they are from."""

import json
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.runs.folder import EXPORTED, RunFolder

FACTS = "export.json"


def is_exported(folder: RunFolder) -> bool:
    """Tell whether a folder holds exported weights, and no checkpoints to go on from."""
    return (folder.path / EXPORTED).is_file() and not any(folder.checkpoints.glob("*.ckpt"))


def facts(folder: Path) -> dict[str, Any]:
    """Read what an exported folder says of its weights; empty if it says nothing.

    Args:
        folder: folder of the weights.

    Raises:
        InputError: if the file is damaged.
    """
    path = folder / FACTS
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if not isinstance(content, dict):
            raise ValueError("not a mapping")
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is damaged ({str(error).splitlines()[0]})") from error
    return content
