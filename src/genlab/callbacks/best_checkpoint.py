"""Keep the checkpoint with the best value of a figure, whenever the figure is measured."""

import math
import sys
from pathlib import Path
from typing import Any, Literal

import pytorch_lightning as pl
from pytorch_lightning.callbacks import Checkpoint

from genlab.machine.files import link
from genlab.training.module import TrainingModule


class BestCheckpoint(Checkpoint):
    """A callback that saves a checkpoint when the monitored figure was just measured and is the best so far.

    Lightning's ModelCheckpoint does not fit a figure that is measured on a schedule of its own: it attributes the last
    measured value, however old, to the current weights, and fails if there is no value after a validation.

    At the end of an epoch, where :class:`~genlab.callbacks.last_checkpoint.LastCheckpoint` saves the same weights, the
    checkpoint is a link to that file, not a second one.

    Attributes:
        follows: whether a checkpoint of the newest weights is saved at the end of every epoch.

    Args:
        path: path of the checkpoint.
        monitor: name of the figure, ``val/...``.
        mode: ``"min"`` if smaller values are better, ``"max"`` if larger ones are.
    """

    def __init__(self, path: str, monitor: str, mode: Literal["min", "max"] = "min") -> None:
        self.path, self.monitor, self.mode = Path(path), monitor, mode
        self.best: float | None = None
        self.follows = False
        self._owed = False  # whether the checkpoint is still to be linked to that of the newest weights
        self._seen_at = -1

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: object) -> None:
        self._look(trainer, module)

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._look(trainer, module)

    def _look(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        value, at = module.reported.get(self.monitor, (math.nan, -1))
        if at <= self._seen_at or trainer.sanity_checking or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._seen_at = at
        sign = 1 if self.mode == "min" else -1
        if math.isfinite(value) and (self.best is None or sign * value < sign * self.best):
            self.best = value
            # A sign of the end of an epoch, after whose validation the newest weights are saved.
            self._owed = self.follows and trainer.is_last_batch
            if not self._owed:
                trainer.save_checkpoint(self.path, weights_only=False)

    def settle(self, newest: Path) -> None:
        """Link the checkpoint to one of the newest weights, if these are the best and were not saved for themselves.

        Args:
            newest: checkpoint that was saved after the figure was measured, or that the training goes on from.
        """
        if self._owed:
            link(newest, self.path)
            self._owed = False

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if self.best is None and trainer.is_global_zero and not trainer.fast_dev_run:  # type: ignore[attr-defined]
            measured = ", ".join(sorted(module.reported)) or "nothing"
            print(
                f"genlab: {self.monitor} was never measured, so there is no {self.path.name} (measured: {measured})",
                file=sys.stderr,
            )

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "seen_at": self._seen_at, "owed": self._owed}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self._seen_at, self._owed = state["best"], state["seen_at"], state.get("owed", False)
