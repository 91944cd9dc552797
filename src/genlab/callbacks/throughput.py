"""Measure images per second of training, without validation, sampling and checkpoints, and the memory it takes.

For text, also tokens per second; for models that know their number of floating-point operations, also the share of
those that the device could do (model FLOPs utilisation: PaLM, arXiv:2204.02311, appendix B).
"""

import time
from typing import Any

import pytorch_lightning as pl
import torch
from lightning_fabric.utilities.throughput import get_available_flops
from pydantic import NonNegativeInt

from genlab.machine.environment import peak_memory_mb
from genlab.training.module import TrainingModule


class Throughput(pl.Callback):
    """A callback that measures stretches of uninterrupted training, and logs the overall rate after every epoch.

    Args:
        warmup: number of batches at the beginning that are not measured.
    """

    def __init__(self, warmup: NonNegativeInt = 3) -> None:
        self.warmup = warmup
        self.seconds = 0.0
        self.images = 0
        self._batches = 0
        self._from: float | None = None
        self._images_from = 0

    @property
    def images_per_second(self) -> float | None:
        """Rate over all stretches so far; None before the first one has ended."""
        return self.images / self.seconds if self.seconds > 0 else None

    def images_per_second_now(self, module: TrainingModule) -> float | None:
        """Rate over all stretches and the one that has not ended; None before the first batches are measured."""
        seconds, images = self.seconds, self.images
        if self._from is not None:
            seconds, images = (
                seconds + time.perf_counter() - self._from,
                images + module.images_seen - self._images_from,
            )
        return images / seconds if images > 0 and seconds > 0 else None

    def _close(self, module: pl.LightningModule) -> None:
        """End a stretch of uninterrupted training."""
        assert isinstance(module, TrainingModule)
        if self._from is None:
            return
        if module.device.type == "cuda":
            torch.cuda.synchronize(module.device)  # once per stretch, not per step
        self.seconds += time.perf_counter() - self._from
        self.images += module.images_seen - self._images_from
        self._from = None

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        assert isinstance(module, TrainingModule)
        self._batches += 1
        if self._from is None and self._batches > self.warmup:
            if module.device.type == "cuda":
                torch.cuda.synchronize(module.device)
            self._from, self._images_from = time.perf_counter(), module.images_seen

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._close(module)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._close(module)
        assert isinstance(module, TrainingModule)
        if self.images_per_second is not None:
            memory = peak_memory_mb(module.device)
            module.log_now(
                {
                    "train/images_per_second": self.images_per_second,
                    **_counted(trainer, module, self.images_per_second),
                    **self._operations(trainer, module, self.images_per_second),
                    **({} if memory is None else {"train/peak_memory_mb": memory}),
                }
            )

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": self.seconds, "images": self.images}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.seconds, self.images = state["seconds"], state["images"]

    @staticmethod
    def _operations(trainer: pl.Trainer, module: TrainingModule, rate: float) -> dict[str, float]:
        """Give operations per second, all devices together, and the share of the devices' peak (MFU)."""
        flops = getattr(module.model, "flops", None)
        if flops is None:
            return {}
        found = {"train/teraflops": 1e-12 * rate * flops}
        dtype = torch.bfloat16 if "bf16" in str(trainer.precision) else torch.float32
        if module.device.type == "cuda" and (peak := get_available_flops(module.device, dtype)) is not None:
            found["train/mfu"] = rate * flops / (peak * trainer.world_size)
        return found


def _counted(trainer: pl.Trainer, module: TrainingModule, rate: float) -> dict[str, float]:
    """Give the rate in what the data's speeds count, if these are parts of examples, such as tokens."""
    modality = trainer.datamodule.modality  # type: ignore[attr-defined]
    each = modality.counted_in(module.model.shape)
    return {} if each == 1 else {f"train/{modality.counted}_per_second": each * rate}
