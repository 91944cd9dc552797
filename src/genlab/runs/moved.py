"""What has moved since a config was saved, so that every run on disk keeps opening.

A run's ``config.yaml`` states the import path of each class it was built from. When a class moves, its old path is
added here, and :func:`current` is applied wherever a saved config is built, resumed or compared. So are the keys that a
class has had since: with the value of what was done before, a run of then is resumed as the run that it was.
"""

from collections.abc import Mapping
from typing import Any

MOVED = {
    "genlab.runs.evaluation": "genlab.metrics.evaluation",
    "genlab.runs.metrics_csv": "genlab.loggers.metrics_csv",
    "genlab.runs.wandb": "genlab.loggers.wandb",
    "genlab.sweeps": "genlab.launching.sweeps",
}

# By today's path: keys that the class had not yet, and keys that it does not use any more.
ADDED: dict[str, dict[str, Any]] = {
    "genlab.training.adversarial.AdversarialTraining": {
        "discriminator_start": 0,
        "adversarial_weight": 1.0,
        "adaptive_weight": False,
    },
}
UNUSED: dict[str, dict[str, Any]] = {
    "genlab.data.text.TextDataModule": {"num_classes": None},  # a window's class was once the token before it
}


def current(config: Any) -> Any:
    """Copy a saved config with every ``_target_`` at its path of today, and with that class's keys of today.

    Args:
        config: a config as plain values; lists and mappings within it are followed.
    """
    if isinstance(config, Mapping):
        node = {
            key: current_path(value) if key == "_target_" and isinstance(value, str) else current(value)
            for key, value in config.items()
        }
        target = node.get("_target_")
        return {**ADDED.get(target, {}), **node, **UNUSED.get(target, {})} if isinstance(target, str) else node
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
