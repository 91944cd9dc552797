"""Training a generator and a discriminator in turns, with Lightning's manual optimization."""

from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from genlab.errors import InputError
from genlab.models.base import AdversarialModel
from genlab.models.gan.losses import AdversarialLoss
from genlab.training.module import OptimizerFactory, TrainingModule
from genlab.training.processes import average_gradients


class AdversarialTraining(TrainingModule):
    """D steps on every batch, G after every ``discriminator_steps`` of them.

    Logs both losses and D's accuracy on real and on generated images.

    Args:
        model: the players.
        loss: of the game.
        generator_optimizer: ``parameters -> optimizer``.
        discriminator_optimizer: ``parameters -> optimizer``.
        discriminator_steps: of D for one of G.
        **options: of :class:`~genlab.training.module.TrainingModule`.
    """

    model: AdversarialModel
    progress = (*TrainingModule.progress, "_last_generator_loss")

    def __init__(
        self,
        model: AdversarialModel,
        loss: AdversarialLoss,
        generator_optimizer: OptimizerFactory,
        discriminator_optimizer: OptimizerFactory,
        discriminator_steps: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        if discriminator_steps < 1:
            raise InputError(f"discriminator_steps={discriminator_steps}: at least one")
        self.automatic_optimization = False
        self.loss, self.discriminator_steps = loss, discriminator_steps
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        # Batches whose D gradients are added up, kept until G has had its turn on as many.
        self._pending: list[tuple[Tensor, Tensor | None]] = []
        self._last_generator_loss: Tensor | None = None
        self._gradient_norm: Tensor | None = None

    def configure_optimizers(self) -> Any:
        generator = self.make_optimizer(self.generator_optimizer, self.model.generator.parameters())
        discriminator = self.make_optimizer(self.discriminator_optimizer, self.model.discriminator.parameters())
        schedules = [
            self.make_schedule(generator, 1 / self.discriminator_steps),
            self.make_schedule(discriminator),
        ]
        return [generator, discriminator], [s for s in schedules if s is not None]

    def at_boundary(self, batch_idx: int) -> bool:
        return not self._pending

    def optimizer_steps_per_batch(self) -> float:
        return 1 + 1 / self.discriminator_steps

    def _fake(self, num: int, y: Tensor | None) -> Tensor:
        z = torch.randn(num, self.model.latent_dim, device=self.device)
        return self.model.generator(z, y)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, labels = batch
        y = labels if self.model.num_classes is not None else None
        figures = self._discriminator_backward(x, y)
        self._pending.append((x, y))
        if len(self._pending) == self.accumulate:
            figures |= self._steps()
            self._pending = []
        if self._last_generator_loss is not None:
            figures["generator_loss"] = self._last_generator_loss
        self.record(x, figures)

    def _discriminator_backward(self, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self._fake(len(x), y)
        real_logits, fake_logits = self.model.discriminator(x, y), self.model.discriminator(fake, y)
        loss = self.loss.discriminator(real_logits, fake_logits)
        self.manual_backward(loss / self.accumulate)
        return {
            "discriminator_loss": loss,
            "accuracy_real": (real_logits > 0).float().mean(),
            "accuracy_fake": (fake_logits < 0).float().mean(),
        }

    def _steps(self) -> dict[str, Tensor]:
        generator, discriminator = self.optimizers()  # type: ignore[attr-defined]
        schedulers = self.lr_schedulers() or []
        figures: dict[str, Tensor] = {}
        self._step(discriminator, "discriminator", figures)
        turn = (self.batches_seen // self.accumulate + 1) % self.discriminator_steps == 0
        if turn:
            with _frozen(self.model.discriminator):
                total = torch.zeros((), device=self.device)
                for x, y in self._pending:
                    logits = self.model.discriminator(self._fake(len(x), y), y)
                    loss = self.loss.generator(logits) / self.accumulate
                    self.manual_backward(loss)
                    total = total + loss.detach()
            self._step(generator, "generator", figures)
            self._last_generator_loss = total
            if self.ema is not None:
                self.ema.update(self.model)
        if schedulers and self.schedule_interval == "step":
            generator_schedule, discriminator_schedule = schedulers  # type: ignore[misc]
            discriminator_schedule.step()
            if turn:
                generator_schedule.step()
        return figures

    def _step(self, optimizer: Any, name: str, figures: dict[str, Tensor]) -> None:
        average_gradients(p for group in optimizer.optimizer.param_groups for p in group["params"])
        optimizer.step()
        if self._gradient_norm is not None:
            figures[f"{name}_gradient_norm"] = self._gradient_norm
        optimizer.zero_grad()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        self._gradient_norm = self.clip(optimizer)  # here float16's gradients are in their own scale

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.schedule_interval == "epoch":
            for scheduler in self.lr_schedulers() or []:  # type: ignore[union-attr]
                scheduler.step()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """D on images it was not trained on: far below ``train/accuracy_real``, it has memorised its data."""
        x, labels = batch
        y = labels if self.model.num_classes is not None else None
        accuracy = (self.model.discriminator(x, y) > 0).float().mean()
        self.log(
            "val/accuracy_real", accuracy, on_step=False, on_epoch=True, logger=False, sync_dist=True, batch_size=len(x)
        )


@contextmanager
def _frozen(module: nn.Module) -> Any:
    """G's gradient passes through D and leaves none there."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
