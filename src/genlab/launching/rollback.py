"""The decision whether a diverged training goes back to its newest checkpoint, and with which steps."""

import sys
from typing import Any

from genlab.errors import Diverged
from genlab.runs.folder import STATUS, RunFolder
from genlab.training.module import TrainingModule


def roll_back(
    folder: RunFolder, training: TrainingModule, error: Diverged, checkpoint: dict[str, Any] | None, first: bool
) -> int:
    """Decide to go on from a checkpoint with smaller steps, say so and note it in the run's status.

    Args:
        folder: folder of the run.
        training: training procedure that diverged.
        error: what is not finite.
        checkpoint: content of the newest checkpoint; None to begin the training again.
        first: whether this process writes to the folder.

    Returns:
        The number of times that the run has gone back, this time included.

    Raises:
        Diverged: if the run may not go back again.
    """
    if training.rollbacks >= training.max_rollbacks:
        raise Diverged(
            f"{error.what}, though the run went back {training.rollbacks} times to smaller steps, which is "
            "training.max_rollbacks,",
            training.images_seen,
            training.batches_seen,
        ) from error
    count, seen = training.rollbacks + 1, _seen(checkpoint)
    if first:
        where = f"from the checkpoint of {seen:,} images" if checkpoint else "from the beginning"
        print(
            f"genlab: {error.what} after {training.images_seen:,} images: going on {where} with steps of "
            f"{training.rollback_factor**count:g} times their size (rollback {count} of {training.max_rollbacks})",
            file=sys.stderr,
        )
        folder.set_status("running", rollbacks=count, rolled_back_to=seen)
    return count


def rolled_back(folder: RunFolder, checkpoint: dict[str, Any] | None) -> int | None:
    """Read how often a run had gone back when it last began at a checkpoint; None if the checkpoint itself says it.

    A run that is cut off between going back and its next checkpoint goes on where it had gone back to.

    Args:
        folder: folder of the run.
        checkpoint: content of the checkpoint that it goes on from; None if it begins again.
    """
    status = folder.read_json(STATUS)
    count = status.get("rollbacks")
    return count if isinstance(count, int) and status.get("rolled_back_to") == _seen(checkpoint) else None


def _seen(checkpoint: dict[str, Any] | None) -> int:
    return 0 if checkpoint is None else int(checkpoint["progress"]["images_seen"])
