"""Where classes that saved configs name have moved to, so that every run on disk keeps opening.

A run's ``config.yaml`` states the import path of each class it was built from. When a class moves, its old path is
added here, and :func:`current` is applied wherever a saved config is built, resumed or compared.
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
    """Copy a saved config with every ``_target_`` at its path of today; all else stays as it is.

    Args:
        config: a config as plain values; lists and mappings within it are followed.
    """
    if isinstance(config, Mapping):
        return {
            key: current_path(value) if key == "_target_" and isinstance(value, str) else current(value)
            for key, value in config.items()
        }
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
