"""Keep averages of the weights from which, after the training, the average of any width is put together."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import PositiveInt
from torch import Tensor

from genlab.errors import InputError
from genlab.models.power_average import decay_at, gamma_of
from genlab.models.weights import sampled_weights
from genlab.runs.checkpoints import write_checkpoint
from genlab.training.module import TrainingModule


class AverageSnapshots(pl.Callback):
    """A callback that averages the weights by two power functions, and keeps both now and then: ``weights=0.1``.

    EDM2 (arXiv:2312.02696), section 3. Averages of other widths are put together from the snapshots when the run is
    opened: ``genlab evaluate RUN weights=[0.05,0.1,0.15]``. Buffers of real numbers are averaged like weights, others
    are kept as they are at a snapshot.

    Args:
        folder: folder of the snapshots.
        every_images: number of training images between two snapshots.
        widths: widths of the averages, relative to the length of the training; each above 0 and at most 0.28.

    Raises:
        InputError: if there is no average of such a width.
    """

    def __init__(self, folder: str, every_images: PositiveInt, widths: Sequence[float] = (0.05, 0.1)) -> None:
        self.folder, self.every_images, self.widths = Path(folder), every_images, tuple(widths)
        try:
            self.gammas = [gamma_of(width) for width in self.widths]
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(f"callbacks.averages.widths={list(self.widths)}: {error}") from error
        self.steps, self.kept = 0, 0
        self.averages: list[dict[str, Tensor]] = []
        self._weights: dict[str, Tensor] = {}  # those of training, which share its memory

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        state = sampled_weights(module.model)
        self._weights = {name: value for name, value in state.items() if value.is_floating_point()}
        for average in self.averages:  # from a checkpoint
            average.update({name: value.to(self._weights[name].device) for name, value in average.items()})

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        assert isinstance(module, TrainingModule)
        if not module.at_boundary(batch_idx):
            return
        self.steps += 1
        if not self.averages:
            self.averages = [{name: value.clone() for name, value in self._weights.items()} for _ in self.gammas]
        for average, gamma in zip(self.averages, self.gammas, strict=True):
            torch._foreach_lerp_([*average.values()], [*self._weights.values()], 1 - decay_at(self.steps, gamma))
        if module.images_seen // self.every_images > self.kept:
            self._keep(trainer, module)

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if self.averages and not (self.folder / self._name()).is_file():
            self._keep(trainer, module)

    def _name(self) -> str:
        return f"{self.steps:09d}.ckpt"

    def _keep(self, trainer: pl.Trainer, module: TrainingModule) -> None:
        self.kept = module.images_seen // self.every_images
        if not trainer.is_global_zero:
            return
        state = {f"{i}.{name}": value for i, average in enumerate(self.averages) for name, value in average.items()}
        # Counters and the like are not averaged.
        state |= {f"others.{k}": v for k, v in sampled_weights(module.model).items() if k not in self.averages[0]}
        content = {"steps": self.steps, "images_seen": module.images_seen, "gammas": self.gammas, "state_dict": state}
        write_checkpoint(content, self.folder / self._name())

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "kept": self.kept, "averages": self.averages}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.steps, self.kept, self.averages = state["steps"], state["kept"], state["averages"]
