"""Measure the wall time of a run over all its processes; checkpoints carry it past a kill."""

import time
from typing import Any

import pytorch_lightning as pl


class Stopwatch(pl.Callback):
    """A callback that every run has: its seconds go on, in a resumed run, from those of the checkpoint.

    What a killed process did after its last checkpoint is done again, and counts once, as in ``metrics.csv``.

    Args:
        before: seconds before this process, for a checkpoint of an earlier version, which has none.
    """

    def __init__(self, before: float = 0.0) -> None:
        self.before = before
        self._started = time.monotonic()

    @property
    def seconds(self) -> float:
        """Wall time of the run so far."""
        return self.before + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.before = state["seconds"]
