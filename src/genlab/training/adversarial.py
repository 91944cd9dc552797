"""Training a generator and a discriminator in turns, with Lightning's manual optimization."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.models.base import AdversarialModel
from genlab.models.gan.augment_pipe import AugmentPipe
from genlab.models.gan.augmentation import Augmentation
from genlab.models.gan.losses import AdversarialLoss
from genlab.models.gan.regularizers import Critic, GeneratorRegularizer, Regularizer
from genlab.training.module import OptimizerFactory, TrainingModule
from genlab.training.processes import average_gradients


class AdversarialTraining(TrainingModule):
    """D steps on every batch, G ``generator_steps`` times after every ``discriminator_steps`` of them.

    Logs both losses, D's logits on real and on generated examples and how often it is right, the penalties, and at the
    steps that are logged the norms of both gradients.

    Args:
        model: the players.
        loss: of the game.
        generator_optimizer: ``parameters -> optimizer``.
        discriminator_optimizer: ``parameters -> optimizer``.
        regularizers: penalties on D, by the names that they are logged with.
        generator_regularizers: penalties on G, likewise.
        augment: what D sees instead of the examples.
        discriminator_steps: of D for a turn of G.
        generator_steps: of G in its turn.
        generator_batch: examples that G makes in a step, as a multiple of D's.
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
        regularizers: Mapping[str, Regularizer] | None = None,
        generator_regularizers: Mapping[str, GeneratorRegularizer] | None = None,
        augment: Augmentation | None = None,
        discriminator_steps: int = 1,
        generator_steps: int = 1,
        generator_batch: int = 1,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        if min(discriminator_steps, generator_steps, generator_batch) < 1:
            raise InputError(
                f"discriminator_steps={discriminator_steps}, generator_steps={generator_steps}, "
                f"generator_batch={generator_batch}: at least one of each"
            )
        images_only = [name for name, r in (regularizers or {}).items() if r is not None and r.of_images]
        if augment is not None:
            images_only.append(type(augment).__name__)
        if len(model.shape) != 3 and images_only:
            raise InputError(f"{images_only[0]} changes images; this data has none")
        self.automatic_optimization = False
        self.loss, self.augment = loss, augment
        self._penalties = {k: r for k, r in (regularizers or {}).items() if r is not None}
        self._generator_penalties = {k: r for k, r in (generator_regularizers or {}).items() if r is not None}
        # As modules, for their state to be in checkpoints and on the device: a mean path length, say.
        for penalty in self._generator_penalties.values():
            penalty.check(model.generator)
        self.regularizers = nn.ModuleDict(self._penalties)
        self.generator_regularizers = nn.ModuleDict(self._generator_penalties)
        self.discriminator_steps, self.generator_steps = discriminator_steps, generator_steps
        self.generator_batch = generator_batch
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        # Batches whose D gradients are added up, kept until G has had its turn on as many.
        self._pending: list[tuple[Tensor, Tensor | None]] = []
        self._last_generator_loss: Tensor | None = None
        self._gradient_norm: Tensor | None = None

    def check(self, data: DataModule) -> None:
        if data.batch_size % self.model.pack:
            raise InputError(
                f"dataset.batch_size={data.batch_size} does not divide into model.pack={self.model.pack} examples each"
            )

    def configure_optimizers(self) -> Any:
        generator = self.make_optimizer(self.generator_optimizer, self.model.generator.parameters())
        discriminator = self.make_optimizer(self.discriminator_optimizer, self.model.discriminator.parameters())
        schedules = [
            self.make_schedule(generator, self.generator_steps / self.discriminator_steps),
            self.make_schedule(discriminator),
        ]
        return [generator, discriminator], [s for s in schedules if s is not None]

    def at_boundary(self, batch_idx: int) -> bool:
        return not self._pending

    def optimizer_steps_per_batch(self) -> float:
        return 1 + self.generator_steps / self.discriminator_steps

    @property
    def _steps_taken(self) -> int:
        """Of D, before this batch's."""
        return self.batches_seen // self.accumulate

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

    # -- the discriminator ---------------------------------------------------------------------------------------------

    def _fake(self, num: int, y: Tensor | None) -> Tensor:
        z = torch.randn(num, self.model.latent_dim, device=self.device)
        return self.model.generator(z, y).float()  # examples are, whatever computed them

    def _critic(self, y: Tensor | None) -> Critic:
        """D as it plays: on augmented examples, with their classes. Losses are computed in float32."""
        return lambda x: self.model.discriminator(x if self.augment is None else self.augment(x), y).float()

    def _discriminator_backward(self, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self._fake(len(x), y)
        due = [name for name, penalty in self._penalties.items() if self._steps_taken % penalty.every == 0]
        for name in due:
            self._penalties[name].prepare(self.images_seen)
        if due:
            x, fake = x.detach().requires_grad_(), fake.requires_grad_()
        if self.augment is not None:
            self.augment.prepare(self.images_seen)
        loss, certainty, figures = self.discriminator_loss(x, fake, y, due)
        self.manual_backward(loss / self.accumulate)
        if self.augment is not None:
            self.augment.update(certainty)
            if isinstance(self.augment, AugmentPipe):
                figures["augment_p"] = self.augment.p.clone()
        return figures

    def discriminator_loss(
        self, x: Tensor, fake: Tensor, y: Tensor | None, due: list[str]
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """What D minimises, how sure it is of the real examples, and what is logged.

        Args:
            x, fake: ``(B, ...)``, leaves that require gradients where a penalty is due.
            y: classes.
            due: the penalties of this step, by name.
        """
        critic = self._critic(y)
        with _differentiable_twice(bool(due)):
            on_real, on_fake = critic(x), critic(fake)
            penalties = {name: self._penalties[name].penalty(critic, x, fake, on_real, on_fake) for name in due}
        loss = self.loss.discriminator(on_real, on_fake)
        real, generated = on_real.detach(), on_fake.detach()
        figures = {"discriminator_loss": loss.detach(), "logit_real": real.mean(), "logit_fake": generated.mean()}
        if self.loss.calibrated:
            figures["accuracy_real"] = (real > 0).float().mean()
            figures["accuracy_fake"] = (generated < 0).float().mean()
        else:
            figures["accuracy_pairs"] = (real > generated).float().mean()
        for name in due:
            loss = loss + self._penalties[name].every * penalties[name]
            figures[name] = penalties[name].detach()
        # The sign of a logit may say nothing, its order does.
        return loss, real if self.loss.calibrated else real - generated, figures

    # -- the generator, and the steps of both --------------------------------------------------------------------------

    def _generator_backward(self, turn: int) -> Tensor:
        """Over the pending batches; gives the loss."""
        total = torch.zeros((), device=self.device)
        for x, y in self._pending:
            x = x.detach()
            if self.generator_batch > 1:
                x = torch.cat([x] * self.generator_batch)
                y = None if y is None else y.repeat(self.generator_batch)
            loss = self.generator_loss(x, y)
            total += loss.detach() / self.accumulate
            for regularizer in self._generator_penalties.values():
                if turn % regularizer.every == 0:
                    z = torch.randn(len(x), self.model.latent_dim, device=self.device)
                    with _differentiable_twice(True):
                        penalty = regularizer.penalty(self.model.generator, z, y)
                    loss = loss + regularizer.every * penalty
            self.manual_backward(loss / self.accumulate)
        return total

    def generator_loss(self, x: Tensor, y: Tensor | None) -> Tensor:
        """What G minimises, with as many examples as are real, ``(B, ...)``, and of their classes."""
        critic = self._critic(y)
        on_real = None
        if self.loss.relative:
            with torch.no_grad():
                on_real = critic(x)
        return self.loss.generator(critic(self._fake(len(x), y)), on_real)

    def _steps(self) -> dict[str, Tensor]:
        generator, discriminator = self.optimizers()  # type: ignore[attr-defined]
        schedulers = self.lr_schedulers() or []
        figures: dict[str, Tensor] = {}
        self._step(discriminator, "discriminator", figures)
        for regularizer in self._penalties.values():
            regularizer.after_step(self.model.discriminator)
        turns, left = divmod(self._steps_taken + 1, self.discriminator_steps)
        steps = self.generator_steps if left == 0 else 0
        for i in range(steps):
            with _frozen(self.model.discriminator):
                self._last_generator_loss = self._generator_backward((turns - 1) * self.generator_steps + i)
            self._step(generator, "generator", figures)
            if self.ema is not None:
                self.ema.update(self.model)
        if schedulers and self.schedule_interval == "step":
            generator_schedule, discriminator_schedule = schedulers  # type: ignore[misc]
            discriminator_schedule.step()
            for _ in range(steps):
                generator_schedule.step()
        return figures

    def _step(self, optimizer: Any, name: str, figures: dict[str, Tensor]) -> None:
        average_gradients(p for group in optimizer.optimizer.param_groups for p in group["params"])
        optimizer.step()
        # Autocast keeps the weights it has cast until the batch is done; the other player meets them again before that.
        torch.clear_autocast_cache()
        if self._gradient_norm is not None:
            figures[f"{name}_gradient_norm"] = self._gradient_norm
        optimizer.zero_grad()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # Here float16's gradients are in their own scale.
        self._gradient_norm = self.clip(optimizer)
        if self._gradient_norm is None and (self.batches_seen + 1) % self.trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            gradients = [p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
            self._gradient_norm = torch.nn.utils.get_total_norm(gradients)

    def on_train_epoch_end(self) -> None:
        super().on_train_epoch_end()
        if self.schedule_interval == "epoch":
            for scheduler in self.lr_schedulers() or []:  # type: ignore[union-attr]
                scheduler.step()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """D on examples it was not trained on: far below ``train/accuracy_real``, it has memorised its data."""
        x, labels = batch
        num = len(x) - len(x) % self.model.pack
        if not self.loss.calibrated or num == 0:
            return
        y = labels[:num] if self.model.num_classes is not None else None
        accuracy = (self.model.discriminator(x[:num], y) > 0).float().mean()
        self.log(
            "val/accuracy_real", accuracy, on_step=False, on_epoch=True, logger=False, sync_dist=True, batch_size=num
        )


def _differentiable_twice(needed: bool) -> AbstractContextManager[Any]:
    """Where that is needed, compiled players play as they are written: what torch.compile makes has one derivative.

    Unless both derivatives are compiled as one.
    """
    if not needed or torch.compiler.is_compiling():
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def _frozen(module: nn.Module) -> Any:
    """G's gradient passes through D and leaves none there."""
    module.requires_grad_(False)
    try:
        yield
    finally:
        module.requires_grad_(True)
