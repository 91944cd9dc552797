"""Float32 matrix products in TF32 during the steps of training, and nowhere else."""

from typing import Any

import pytorch_lightning as pl
import torch


class TF32(pl.Callback):
    """Callback that lets a GPU round the factors of float32 matrix products to TF32 while it takes a step.

    Validation, sampling and evaluation, which happen between two steps, compute in full float32. It is the first of a
    trainer's callbacks, because others may draw samples at the end of a step. The setting is one of CUDA's matrix
    products alone; PyTorch convolves in TF32 unless it is told otherwise.
    """

    def __init__(self) -> None:
        self._before: bool | None = None

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        self._before = torch.backends.cuda.matmul.allow_tf32
        torch.backends.cuda.matmul.allow_tf32 = True

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._restore()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._restore()

    def _restore(self) -> None:
        if self._before is not None:
            torch.backends.cuda.matmul.allow_tf32, self._before = self._before, None
