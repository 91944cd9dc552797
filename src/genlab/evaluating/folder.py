"""Folders for evaluations that belong to no run."""

from pathlib import Path
from typing import Any

from genlab.composition.resolvers import unique_name
from genlab.runs.folder import RunFolder


def new_folder(config: dict[str, Any]) -> RunFolder:
    """Make the folder of an evaluation that belongs to no run.

    Args:
        config: config of ``genlab evaluate``, as plain values.
    """
    path = Path(config["paths"]["output_dir"], "evaluate", unique_name())
    path.mkdir(parents=True)
    return RunFolder(path)
