"""How far a run has come, and whether its config leaves it something to do."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from genlab.errors import InputError
from genlab.runs.folder import RunFolder


@dataclass(frozen=True)
class Limit:
    """A limit on the length of a run, and how far the run has come.

    Attributes:
        key: config key of the limit.
        given: its value.
        seen: how much of it is used up, in the same unit.
        words: how much is used up, in words.
    """

    key: str
    given: float
    seen: float
    words: str


def epochs_seen(checkpoint: Mapping[str, Any]) -> int:
    """Count the epochs whose training had ended when a checkpoint was written.

    Args:
        checkpoint: content of the checkpoint.
    """
    return int(checkpoint["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"])


def limits(config: Mapping[str, Any], checkpoint: Mapping[str, Any]) -> list[Limit]:
    """List the limits that a config sets on the length of a run.

    Args:
        config: config of the run, as plain values.
        checkpoint: newest checkpoint of the run.

    Raises:
        InputError: if ``trainer.max_time`` cannot be read.
    """
    trainer, found = config["trainer"], list[Limit]()
    epochs, images, steps = epochs_seen(checkpoint), checkpoint["progress"]["images_seen"], checkpoint["global_step"]
    if (given := trainer.get("max_epochs")) is not None and given >= 0:
        fit = checkpoint["loops"]["fit_loop"]
        batches = fit["epoch_loop.batch_progress"]["current"]["completed"]
        within = batches > 0 and fit["epoch_progress"]["current"]["completed"] == epochs
        found.append(Limit("trainer.max_epochs", given, epochs + 0.5 * within, f"seen {epochs} epochs"))
    if (given := config["training"].get("images")) is not None:
        found.append(Limit("budget.images", given, images, f"seen {images:,} images"))
    if (given := trainer.get("max_steps", -1)) >= 0:
        found.append(Limit("trainer.max_steps", given, steps, f"taken {steps:,} steps"))
    if (given := trainer.get("max_time")) is not None:
        elapsed = checkpoint["callbacks"].get("Timer", {}).get("time_elapsed", {}).get("train", 0.0)
        found.append(Limit("trainer.max_time", _seconds(given), elapsed, f"trained for {elapsed:.0f} s"))
    return found


def _seconds(max_time: Any) -> float:
    from pytorch_lightning.callbacks import Timer

    try:
        return float(Timer(max_time).time_remaining() or 0.0)
    except Exception as error:
        raise InputError(f"trainer.max_time={max_time}: give it as DD:HH:MM:SS, such as 00:00:30:00") from error


def check_budget(
    folder: RunFolder,
    done: bool,
    changed: Iterable[str],
    config: Mapping[str, Any],
    checkpoint: Mapping[str, Any] | None,
) -> None:
    """Check that a run has something left to do.

    Args:
        folder: folder of the run, for the error message.
        done: whether the run is done.
        changed: keys of the budget that have changed since it was saved.
        config: config to resume the run with, as plain values.
        checkpoint: newest checkpoint of the run; None if there is none.

    Raises:
        InputError: if the budget is used up; the message names the limit.
    """
    changed = ["budget.images" if key == "training.images" else key for key in changed]
    found = [] if checkpoint is None else limits(config, checkpoint)
    if done and not changed:
        ended = [limit.key for limit in found if limit.seen >= limit.given] or ["trainer.max_epochs or budget.images"]
        raise InputError(f"{folder.path} is done: a larger {' and a larger '.join(ended)} would train it on")
    # A run that is not done may be told to stop where it stands, and is then measured. Time and images may have gone
    # a little beyond their limits; epochs do not.
    asked = {*changed, "trainer.max_epochs"}
    used = [
        limit
        for limit in found
        if (limit.seen >= limit.given if done else limit.key in asked and limit.seen > limit.given)
    ]
    if used:
        raise InputError(
            f"{folder.path} has {' and has '.join(limit.words for limit in used)} already: give a larger "
            f"{' and a larger '.join(limit.key for limit in used)}"
        )
