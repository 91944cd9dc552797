"""Check the length of a run before it begins: a budget is a positive number, or there is none."""

from collections.abc import Mapping
from typing import Any

from genlab.errors import InputError

# Settings of the trainer that count something, with the smallest count, and what else they may be.
_COUNTS: dict[str, tuple[int, tuple[Any, ...], str]] = {
    "max_epochs": (1, (-1, None), "at least 1, or -1 for no limit"),
    "max_steps": (1, (-1,), "at least 1, or -1 for no limit"),
    "min_epochs": (1, (None,), "at least 1, or null"),
    "min_steps": (1, (None,), "at least 1, or null"),
    "check_val_every_n_epoch": (1, (None,), "at least 1"),
    "log_every_n_steps": (0, (None,), "at least 1, or 0 to log at the ends of epochs only"),
    "num_sanity_val_steps": (0, (-1, None), "at least 0, or -1 for all batches"),
    "num_nodes": (1, (), "at least 1"),
}
_SHARES = ("limit_train_batches", "limit_val_batches", "overfit_batches", "val_check_interval")


def check_budget(config: Mapping[str, Any]) -> None:
    """Check that the numbers that say how long a run trains are positive.

    A run that trains nothing is refused, as its figures would be those of random weights.

    Args:
        config: config of the run, as plain values.

    Raises:
        InputError: if one is not; the message names the key.
    """
    images = (config.get("budget") or {}).get("images")
    if images is not None and images < 1:
        raise InputError(f"budget.images={images}: at least 1, or null for no limit")
    trainer = config["trainer"]
    for key, (least, others, words) in _COUNTS.items():
        value = trainer.get(key, least)
        if isinstance(value, int) and not isinstance(value, bool) and value < least and value not in others:
            raise InputError(
                f"trainer.{key}={value}: {words}{'; a run trains' if key in _LENGTHS and not value else ''}"
            )
    for key in _SHARES:
        value = trainer.get(key)
        if isinstance(value, int | float) and not isinstance(value, bool) and value < 0:
            raise InputError(f"trainer.{key}={value}: a number of batches, or a share of them such as 0.1")
    if trainer.get("limit_train_batches") == 0:
        raise InputError("trainer.limit_train_batches=0: at least 1; a run trains")


_LENGTHS = ("max_epochs", "max_steps")
