"""Measure the wall time and CPU time of a run over all its processes; checkpoints carry them past a kill."""

import time
from typing import Any

import pytorch_lightning as pl


class Stopwatch(pl.Callback):
    """A callback that every run has: its seconds go on, in a resumed run, from those of the checkpoint.

    What a killed process did after its last checkpoint is done again, and counts once, as in ``metrics.csv``. CPU time
    is that of the main process over all its threads, without that of workers which load data.

    Args:
        before: seconds before this process, for a checkpoint of an earlier version, which has none.
    """

    def __init__(self, before: float = 0.0) -> None:
        self.before = before
        self.cpu_before = 0.0
        self._started = time.monotonic()
        self._cpu_started = time.process_time()

    @property
    def seconds(self) -> float:
        """Wall time of the run so far."""
        return self.before + time.monotonic() - self._started

    @property
    def cpu_seconds(self) -> float:
        """CPU time of the run so far, from the beginning of each process's run."""
        return self.cpu_before + time.process_time() - self._cpu_started

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "cpu_seconds": self.cpu_seconds}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.before = state["seconds"]
        self.cpu_before = state.get("cpu_seconds", 0.0)
