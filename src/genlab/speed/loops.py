"""The training loops to compare: a minimal one in plain PyTorch, and the step of ``genlab train``."""

import time
from abc import ABC, abstractmethod
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor
from torch.optim import Optimizer

from genlab.composition.building import build
from genlab.data.images import ImageDataModule
from genlab.data.module import DataModule
from genlab.machine.devices import check_for_gpus_quickly
from genlab.models.adversarial import AdversarialModel
from genlab.models.base import ObjectiveModel
from genlab.speed.rounds import synchronize
from genlab.training.adversarial import AdversarialTraining
from genlab.training.compilation import Compilation
from genlab.training.hooks import leave_out_empty_hooks
from genlab.training.module import TrainingModule
from genlab.training.objective import ObjectiveTraining
from genlab.training.tf32 import TF32
from genlab.training.trainer_settings import trainer_options


class PlainLoop(ABC):
    """A minimal training loop, as in a paper's script: eager float32, no logging, no weight averaging, no schedule.

    As in genlab, the data lie on the device as stored, because the comparison is not about reading data.

    Args:
        data: data set, set up.
        device: device to train on.
    """

    optimizers: dict[str, Optimizer]

    def __init__(self, data: DataModule, device: torch.device) -> None:
        examples = data.splits["train"]
        if examples.images is None:
            # Reading all files of a large folder would take longer than the measurement.
            num = min(len(examples), 50 * data.batch_size)
            self.images = examples.take(torch.arange(num)).to(device)
            self.labels = examples.labels[:num].to(device)
        else:
            self.images, self.labels = examples.images.to(device), examples.labels.to(device)
        self.to_float = 1 / (data.source_levels - 1) if isinstance(data, ImageDataModule) else 1.0
        self.windows = None if data.modality.is_numeric else data.transform("train")
        self.from_grey, self.batch_size = data.modality.from_grey, data.batch_size
        self.device = device
        self._order = torch.randperm(len(self.images), device=device)
        self._at = 0

    def batch(self) -> tuple[Tensor, Tensor]:
        """Give the next batch, float ``(B, *shape)``, and its classes ``(B,)``."""
        if self._at + self.batch_size > len(self._order):
            self._order, self._at = torch.randperm(len(self.images), device=self.device), 0
        index = self._order[self._at : self._at + self.batch_size]
        self._at += self.batch_size
        x = self.images[index]
        if self.windows is not None:
            return self.windows(x, index, 0), self.labels[index]
        return self.from_grey(x.float() * self.to_float), self.labels[index]

    @abstractmethod
    def step(self, x: Tensor, y: Tensor) -> None:
        """Train on one batch.

        Args:
            x: examples, float ``(B, *shape)``.
            y: classes, int64 ``(B,)``.
        """

    def seconds_per_step(self, steps: int) -> float:
        """Train for some steps, and give the seconds that a step takes on average.

        Args:
            steps: number of steps.
        """
        synchronize(self.device)
        started = time.perf_counter()
        for _ in range(steps):
            self.step(*self.batch())
        synchronize(self.device)
        return (time.perf_counter() - started) / steps


class PlainObjective(PlainLoop):
    """A minimal loop for models with one loss and one optimizer.

    Args:
        model: model to train.
        training: training procedure, which says how to build the optimizer and where to clip gradients.
        data: data set, set up.
        device: device to train on.
    """

    def __init__(self, model: ObjectiveModel, training: ObjectiveTraining, data: DataModule, device: torch.device):
        super().__init__(data, device)
        self.model = model.to(device).train()
        self.optimizers = {"optimizer": training.optimizer(self.model.parameters())}
        self.clip = training.gradient_clip

    def step(self, x: Tensor, y: Tensor) -> None:
        loss = self.forward(x, y)
        self.backward(loss)
        self.update()

    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        """Compute the loss of a batch."""
        return self.model.loss(x, y)["loss"]

    def backward(self, loss: Tensor) -> None:
        """Compute the gradients of a loss."""
        loss.backward()

    def update(self) -> None:
        """Clip the gradients if training does, and take a step of the optimizer."""
        if self.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        for optimizer in self.optimizers.values():
            optimizer.step()
            optimizer.zero_grad()


class PlainGame(PlainLoop):
    """A minimal loop for adversarial training: a step of the discriminator, then one of the generator.

    Args:
        model: model with generator and discriminator.
        training: training procedure, which says how to build the loss and the optimizers.
        data: data set, set up.
        device: device to train on.
    """

    def __init__(
        self, model: AdversarialModel, training: AdversarialTraining, data: DataModule, device: torch.device
    ) -> None:
        super().__init__(data, device)
        self.model, self.loss, self.steps = model.to(device).train(), training.loss, training.discriminator_steps
        self.optimizers = {
            "generator": training.generator_optimizer(training.players.generator),
            "discriminator": training.discriminator_optimizer(training.players.discriminator),
        }
        self._batches = 0

    def step(self, x: Tensor, y: Tensor) -> None:
        D = self.model.discriminator
        with torch.no_grad():
            fake = self.model.play(x, y).fake
        self._update("discriminator", self.loss.discriminator(D(x, y), D(fake, y)))
        self._batches += 1
        if self._batches % self.steps == 0:
            D.requires_grad_(False)
            played = self.model.play(x, y)
            self._update("generator", self.loss.generator(D(played.fake, y)) + sum(played.terms.values()))
            D.requires_grad_(True)

    def _update(self, player: str, loss: Tensor) -> None:
        loss.backward()
        self.optimizers[player].step()
        self.optimizers[player].zero_grad()


def plain_loop(training: TrainingModule, data: DataModule, device: torch.device) -> PlainLoop:
    """Build the minimal loop for a training procedure, with the same model (not a copy), batch size and optimizers.

    Args:
        training: genlab's training procedure.
        data: data set, set up.
        device: device to train on.
    """
    if isinstance(training, AdversarialTraining):
        return PlainGame(training.model, training, data, device)
    assert isinstance(training, ObjectiveTraining)
    return PlainObjective(training.model, training, data, device)


class _Clock(pl.Callback):
    """Measure the time from the start of one batch to the end of a later one, as Lightning runs them."""

    def __init__(self, warmup: int, steps: int) -> None:
        self.first, self.last = warmup, warmup + steps - 1
        self.seconds = 0.0

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, batch: Any, batch_idx: int) -> None:
        if batch_idx == self.first:
            synchronize(module.device)
            self.seconds = -time.perf_counter()

    def on_train_batch_end(
        self, trainer: pl.Trainer, module: pl.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx == self.last:
            synchronize(module.device)
            self.seconds += time.perf_counter()


class GenlabLoop:
    """The step of ``genlab train`` with trainer, callbacks and loggers; validation and checkpoints are not measured.

    Loops may share loggers, which need a growing number of images seen; all loops therefore continue one count.

    Args:
        config: config of the trainer, resolved.
        training: training procedure, built.
        data: data set, built.
        callbacks: callbacks, built.
        loggers: loggers, built.

    Attributes:
        warmup: number of steps before a measurement begins.
    """

    images_seen = 0

    def __init__(
        self,
        config: dict[str, Any],
        training: TrainingModule,
        data: DataModule,
        callbacks: list[pl.Callback],
        loggers: list[Any],
    ) -> None:
        self.options = trainer_options({"trainer": config})
        self.training, self.data, self.loggers = training, data, loggers
        how = config.get("compile", False)
        # "auto" would not compile in a run as short as this, but the measurement stands for a long one.
        first = [TF32()] if config.get("tf32", False) else []
        self.callbacks = [*first, Compilation(True if how == "auto" else how), *callbacks]
        # A model that is moved to the device again needs new CUDA graphs, which are captured in its first steps.
        self.warmup = 12 if how == "reduce-overhead" and torch.cuda.is_available() else 1

    def seconds_per_step(self, steps: int) -> float:
        """Train for some steps, and give the seconds per step, including the time between two steps.

        Args:
            steps: number of steps to measure.

        Raises:
            ValueError: if an epoch has fewer batches than that.
        """
        clock = _Clock(self.warmup, steps)
        batches = self.warmup + steps
        if batches > len(self.data.splits["train"]) // self.data.batch_size:
            raise ValueError(f"{batches} batches are more than an epoch has")
        trainer = build(
            {
                **self.options,
                "max_epochs": 1,
                "max_steps": -1,
                "max_time": None,
                "limit_train_batches": batches,
                "limit_val_batches": 0,
                "callbacks": [clock, *self.callbacks],
                "logger": self.loggers,
            },
            "trainer",
        )
        check_for_gpus_quickly()
        leave_out_empty_hooks(trainer, self.training)
        self.training.images_seen = GenlabLoop.images_seen
        trainer.fit(self.training, datamodule=self.data)
        GenlabLoop.images_seen = self.training.images_seen + 1
        return clock.seconds / steps
