"""What has moved since a config was saved, so that every run on disk keeps opening.

A run's ``config.yaml`` states the import path of each class it was built from, and its arguments. When a class moves,
its old path is added here; when an argument goes, what it meant. :func:`current` is applied wherever a saved config is
built, resumed or compared.
"""

from collections.abc import Mapping
from typing import Any

MOVED = {
    "genlab.runs.evaluation": "genlab.metrics.evaluation",
    "genlab.runs.metrics_csv": "genlab.loggers.metrics_csv",
    "genlab.runs.wandb": "genlab.loggers.wandb",
    "genlab.sweeps": "genlab.launching.sweeps",
}


def current(config: Any) -> Any:
    """Copy a saved config as it would be saved today: ``_target_`` at its path of today, and arguments of today.

    Args:
        config: a config as plain values; lists and mappings within it are followed.
    """
    if isinstance(config, Mapping):
        moved = {
            key: current_path(value) if key == "_target_" and isinstance(value, str) else current(value)
            for key, value in config.items()
        }
        if moved.get("_target_") == "genlab.data.text.TextDataModule":
            moved["num_classes"] = None  # the vocabulary's size, while the token before a window was its class
        return moved
    if isinstance(config, list):
        return [current(value) for value in config]
    return config


def current_path(target: str) -> str:
    """Give the import path of today for one of any earlier version: a module's own, or of something inside it."""
    parts = target.split(".")
    for length in range(len(parts), 0, -1):
        module = ".".join(parts[:length])
        if module in MOVED:
            return ".".join([MOVED[module], *parts[length:]])
    return target
