"""Save the checkpoint that a run continues from, and stop the run with one when a signal asks for it."""

import contextlib
import os
import signal
from pathlib import Path
from types import FrameType
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pydantic import PositiveInt
from pytorch_lightning.callbacks import Checkpoint

from genlab.callbacks.best_checkpoint import BestCheckpoint
from genlab.errors import InputError, Interrupted
from genlab.machine.process import OF_RUN, SIGNALS
from genlab.training.module import TrainingModule


class LastCheckpoint(Checkpoint):
    """A callback that saves after every epoch, every ``every_images`` images, and when a signal asks the run to stop.

    On Ctrl-C, and on SIGTERM, SIGUSR1 and SIGUSR2, which schedulers send before they kill, the current batch is
    finished, a checkpoint is saved and :class:`~genlab.errors.Interrupted` is raised. A second Ctrl-C ends the run at
    once. Weights that are NaN or infinite are never saved over good ones: they end the run.

    Args:
        path: path of the checkpoint.
        every_images: number of training images between two checkpoints within an epoch; None saves only after epochs.

    Raises:
        InputError: if ``every_images`` is less than 1.
    """

    def __init__(self, path: str, every_images: PositiveInt | None = None) -> None:
        if every_images is not None and every_images < 1:
            raise InputError(f"callbacks.last.every_images={every_images}: at least 1, or null")
        self.path, self.every_images = Path(path), every_images
        self._saved = 0  # number of times that images_seen had passed a multiple of every_images at the last save
        self._signal: int | None = None
        self._stopped, self._speaks = False, False
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        for best in _bests(trainer):
            best.follows = True
            if trainer.ckpt_path is not None and trainer.is_global_zero:
                best.settle(Path(trainer.ckpt_path))  # a kill may have come between two files
        self._speaks = trainer.is_global_zero
        try:
            self._before = {number: signal.signal(number, self._asked) for number in SIGNALS}
        except ValueError:  # only the main thread may handle signals
            self._before = {}

    def _asked(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal is not None:
            raise KeyboardInterrupt
        if self._signal is None and self._speaks:
            at_once = "; another Ctrl-C ends it at once" if number == signal.SIGINT else ""
            line = f"genlab: {signal.Signals(number).name}: the run ends after this batch, and saves it{at_once}"
            with contextlib.suppress(OSError):
                # Not by print: the handler may have come between two halves of another one.
                os.write(2, f"\n{line}\n".encode())
        self._signal = number

    def _give_back(self) -> None:
        # One of several processes has no more to do than to end, and gets some signals twice: from SLURM, which sends
        # them to all, and from the process that started it.
        ends = self._stopped and OF_RUN in os.environ
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_IGN if ends else handler)
        self._before = {}

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, TrainingModule)
        due = self.every_images is not None and module.images_seen // self.every_images > self._saved
        interval = trainer.log_every_n_steps or 50  # type: ignore[attr-defined]  # 0 logs nothing
        asked = self._is_asked(trainer, module, module.batches_seen % interval == 0)
        if (due or asked) and module.at_boundary(batch_idx) and not self._ends_epoch(trainer, batch_idx):
            self._save(trainer, module)
            if asked:
                self._stop()

    def _is_asked(self, trainer: pl.Trainer, module: TrainingModule, ask_others: bool = True) -> bool:
        """Tell whether any process was asked to stop.

        All processes must ask at the same steps. They do not ask at every step, because they wait for each other.
        """
        if trainer.world_size == 1:
            return self._signal is not None
        if not ask_others:
            return False
        flag = torch.tensor(int(self._signal is not None), device=module.device)
        dist.all_reduce(flag, op=dist.ReduceOp.MAX)
        return bool(flag)

    def _ends_epoch(self, trainer: pl.Trainer, batch_idx: int) -> bool:
        """Tell whether this batch ends the epoch, which saves by itself, after a validation that may come first."""
        return batch_idx + 1 >= trainer.num_training_batches

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        self._save(trainer, module)
        if self._is_asked(trainer, module):
            self._stop()

    def _stop(self) -> None:
        self._stopped = True
        number = self._signal or int(signal.SIGTERM)  # if another process was asked; that one reports the right signal
        raise Interrupted(number, self._before.get(number))

    def _save(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        module.check_weights()
        if self.every_images is not None:
            self._saved = module.images_seen // self.every_images
        trainer.save_checkpoint(self.path, weights_only=False)
        if trainer.is_global_zero:
            for best in _bests(trainer):
                best.settle(self.path)

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._give_back()

    def teardown(self, trainer: pl.Trainer, module: pl.LightningModule, stage: str) -> None:
        self._give_back()

    def state_dict(self) -> dict[str, Any]:
        return {"saved": self._saved}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._saved = state["saved"]


def _bests(trainer: pl.Trainer) -> list[BestCheckpoint]:
    return [callback for callback in trainer.callbacks if isinstance(callback, BestCheckpoint)]  # type: ignore[attr-defined]
