"""Training a generator and a discriminator in turns, with Lightning's manual optimization."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer

from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.models.base import AdversarialModel
from genlab.models.gan.augmentation import Augmentation
from genlab.models.gan.losses import AdversarialLoss
from genlab.models.gan.regularizers import Critic, GeneratorRegularizer, Regularizer
from genlab.training.module import Compilable, OptimizerFactory, TrainingModule
from genlab.training.processes import average_gradients

# The largest adaptive weight, as in the code of VQGAN's authors, and the paper's delta.
LARGEST_WEIGHT = 1e4
DELTA = 1e-6


class AdversarialTraining(TrainingModule):
    """D steps on every batch, G ``generator_steps`` times after every ``discriminator_steps`` of them.

    What G makes, and what it minimises beside the adversarial loss, is up to :meth:`AdversarialModel.play`; G's loss is
    the sum of the model's terms and of the adversarial loss times its weight.

    Logs both losses, G's further terms, D's logits on real and on generated examples and how often it is right, the
    penalties, and at the steps that are logged the norms of both gradients. Validation logs the terms as ``val/*``.

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
        discriminator_start: images seen before D, and with it the adversarial loss of G, begins; until then G minimises
            its further terms alone. D's schedule begins with it.
        adversarial_weight: factor of the adversarial loss in G's.
        adaptive_weight: multiply that factor by the ratio of the norms of two gradients at G's last layer, of G's
            further terms and of its adversarial loss: VQGAN (arXiv:2012.09841), equation 7.
        **options: of :class:`~genlab.training.module.TrainingModule`.
    """

    model: AdversarialModel
    regularizers: Mapping[str, Regularizer]
    generator_regularizers: Mapping[str, GeneratorRegularizer]
    progress = (*TrainingModule.progress, "_last_generator_loss", "_last_generator_figures")

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
        discriminator_start: int = 0,
        adversarial_weight: float = 1.0,
        adaptive_weight: bool = False,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        if min(discriminator_steps, generator_steps, generator_batch) < 1:
            raise InputError(
                f"discriminator_steps={discriminator_steps}, generator_steps={generator_steps}, "
                f"generator_batch={generator_batch}: at least one of each"
            )
        if discriminator_start < 0 or adversarial_weight < 0:
            raise InputError(
                f"discriminator_start={discriminator_start}, adversarial_weight={adversarial_weight}: at least 0"
            )
        if discriminator_start and not model.has_terms:
            raise InputError(
                f"discriminator_start={discriminator_start}: until then {type(model).__name__}'s generator has nothing "
                "to minimise, for it has no loss beside the adversarial one; set it to 0"
            )
        self.players = model.players()
        if adaptive_weight and not (model.has_terms and self.players.last_layer is not None):
            raise InputError(
                f"adaptive_weight=true: it is a ratio of gradients at the generator's last layer, and "
                f"{type(model).__name__} names none, or has no terms beside the adversarial loss; set it to false"
            )
        self.automatic_optimization = False
        self.loss, self.augment = loss, augment
        # As modules, for their state to be in checkpoints and on the device: a mean path length, say.
        self.regularizers = _modules(regularizers)
        self.generator_regularizers = _modules(generator_regularizers)
        for penalty in self.generator_regularizers.values():
            penalty.check(model)
        self.discriminator_steps, self.generator_steps = discriminator_steps, generator_steps
        self.generator_batch = generator_batch
        self.discriminator_start = discriminator_start
        self.adversarial_weight, self.adaptive_weight = adversarial_weight, adaptive_weight
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        # Batches whose D gradients are added up, kept until G has had its turn on as many.
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._last_generator_loss: Tensor | None = None
        self._last_generator_figures: dict[str, Tensor] = {}
        self._gradient_norm: Tensor | None = None

    def check(self, data: DataModule) -> None:
        changing = [name for name, regularizer in self.regularizers.items() if regularizer.of_images]
        changing += [] if self.augment is None else [type(self.augment).__name__]
        if changing and not data.modality.is_tiled:
            raise InputError(f"training: {changing[0]} changes images; this data has none")
        if data.batch_size % self.model.pack:
            raise InputError(
                f"dataset.batch_size={data.batch_size} does not divide into model.pack={self.model.pack} examples each"
            )

    def configure_optimizers(self) -> Any:
        generator = self.make_optimizer(self.generator_optimizer, self.players.generator)
        discriminator = self.make_optimizer(self.discriminator_optimizer, self.players.discriminator)
        schedules = [
            self.make_schedule(generator, self.generator_steps / self.discriminator_steps),
            self.make_schedule(discriminator, skipped=self._batches_without_discriminator()),
        ]
        return [generator, discriminator], [s for s in schedules if s is not None]

    def at_boundary(self, batch_idx: int) -> bool:
        return not self._pending

    def batches_of_steps(self, steps: int) -> float:
        of_generator = self.generator_steps / self.discriminator_steps
        both = (steps * self.accumulate + self._batches_without_discriminator()) / (1 + of_generator)
        return min(both, steps * self.accumulate / of_generator)  # that of G alone, where D never begins

    def _batches_without_discriminator(self) -> int:
        return -(-self.discriminator_start // self._batch_size()) if self.discriminator_start else 0

    @property
    def _discriminator_plays(self) -> bool:
        """Whether D has begun; the same for all batches that a step is made of."""
        counted = self.images_seen - sum(len(x) for x, _ in self._pending) * self.trainer.world_size
        return counted >= self.discriminator_start

    def compilable(self, graphs: bool) -> list[Compilable]:
        players = [
            Compilable(name, module, "forward", backward_twice=self.adaptive_weight)
            for name, module in self.model.named_children()
        ]
        if graphs or not _turns_compile(self.model):
            return players
        # What each player minimises as one, penalised gradients included: a player that is compiled alone has one
        # derivative only, and cannot be if its weights are normalized at every call.
        turns = [
            Compilable(name, self, name, takes_gradients=True) for name in ("discriminator_loss", "generator_loss")
        ]
        return [player for player in players if player.name not in self.model.training_only] + turns

    @property
    def _steps_taken(self) -> int:
        """Of D, before this batch's."""
        return self.batches_seen // self.accumulate

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.model.prepare(self.images_seen)
        plays = self._discriminator_plays
        figures = self._discriminator_backward(x, y) if plays else {}
        self._pending.append((x, y))
        if len(self._pending) == self.accumulate:
            figures |= self._steps(plays)
            self._pending = []
        figures |= self._last_generator_figures
        if self._last_generator_loss is not None:
            figures["generator_loss"] = self._last_generator_loss
        self.record(x, figures)

    # -- the discriminator ---------------------------------------------------------------------------------------------

    def _critic(self, y: Tensor) -> Critic:
        """D as it plays: on augmented examples, with their classes. Losses are computed in float32."""
        return lambda x: self.model.discriminator(x if self.augment is None else self.augment(x), y).float()

    def _discriminator_backward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self.model.play(x, y).fake.float()  # examples are, whatever computed them
        due = [name for name, penalty in self.regularizers.items() if self._steps_taken % penalty.every == 0]
        for name in due:
            self.regularizers[name].prepare(self.images_seen)
        if due:
            x, fake = x.detach().requires_grad_(), fake.requires_grad_()
        if self.augment is not None:
            self.augment.prepare(self.images_seen)
        loss, certainty, figures = self.discriminator_loss(x, fake, y, due)
        self.manual_backward(loss / self.accumulate)
        if self.augment is not None:
            self.augment.update(certainty)
            figures |= self.augment.figures()
        return figures

    def discriminator_loss(
        self, x: Tensor, fake: Tensor, y: Tensor, due: list[str]
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
            penalties = {name: self.regularizers[name].penalty(critic, x, fake, on_real, on_fake) for name in due}
        loss = self.loss.discriminator(on_real, on_fake)
        real, generated = on_real.detach(), on_fake.detach()
        figures = {"discriminator_loss": loss.detach(), "logit_real": real.mean(), "logit_fake": generated.mean()}
        if self.loss.calibrated:
            figures["accuracy_real"] = (real > 0).float().mean()
            figures["accuracy_fake"] = (generated < 0).float().mean()
        else:
            figures["accuracy_pairs"] = (real > generated).float().mean()
        for name in due:
            loss = loss + self.regularizers[name].every * penalties[name]
            figures[name] = penalties[name].detach()
        # The sign of a logit may say nothing, its order does.
        return loss, real if self.loss.calibrated else real - generated, figures

    # -- the generator, and the steps of both --------------------------------------------------------------------------

    def _generator_backward(self, turn: int, plays: bool) -> None:
        """Add up G's gradients over the pending batches, and keep what is logged of them."""
        total = torch.zeros((), device=self.device)
        sums: dict[str, Tensor] = {}
        for x, y in self._pending:
            x = x.detach()
            if self.generator_batch > 1:
                x, y = torch.cat([x] * self.generator_batch), y.repeat(self.generator_batch)
            loss, figures = self.generator_loss(x, y, plays)
            total += loss.detach() / self.accumulate
            for name, value in figures.items():
                sums[name] = sums.get(name, 0) + value.detach() / self.accumulate
            for regularizer in self.generator_regularizers.values():
                if turn % regularizer.every == 0:
                    with _differentiable_twice(True):
                        penalty = regularizer.penalty(self.model, x, y)
                    loss = loss + regularizer.every * penalty
            self.manual_backward(loss / self.accumulate)
        self._last_generator_loss, self._last_generator_figures = total, sums

    def generator_loss(self, x: Tensor, y: Tensor, plays: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute what G minimises, and its parts to be logged; penalties apart.

        Args:
            x: real examples, ``(B, ...)``; G makes as many.
            y: their classes.
            plays: whether D has begun; until then the loss is the sum of the model's terms.
        """
        critic = self._critic(y)
        on_real = None
        if plays and self.loss.relative:
            with torch.no_grad():
                on_real = critic(x)
        played = self.model.play(x, y)
        figures = dict(played.terms)
        if not plays:
            return sum(played.terms.values(), torch.zeros((), device=x.device)), figures
        loss = self.loss.generator(critic(played.fake.float()), on_real)
        if played.terms or self.adversarial_weight != 1:
            figures["adversarial_loss"] = loss
        if self.adversarial_weight != 1:
            loss = self.adversarial_weight * loss
        if played.terms:
            terms = sum(played.terms.values(), torch.zeros((), device=x.device))
            if self.adaptive_weight:
                weight = self._ratio(terms, figures["adversarial_loss"])
                loss, figures["adversarial_weight"] = weight * loss, self.adversarial_weight * weight
            loss = loss + terms
        return loss, figures

    def _ratio(self, terms: Tensor, adversarial: Tensor) -> Tensor:
        """Divide the norms of both losses' gradients at G's last layer: VQGAN (arXiv:2012.09841), equation 7."""
        scaler, last_layer = self._scaler(), self.players.last_layer
        assert last_layer is not None
        norms = []
        for loss in (terms, adversarial):
            # Float16 gradients vanish unless they are scaled, and a ratio keeps its value.
            scaled = loss if scaler is None else scaler.scale(loss)
            (gradient,) = torch.autograd.grad(
                scaled, last_layer, retain_graph=True, allow_unused=True, materialize_grads=True
            )
            norms.append(gradient.float().norm())
        return (norms[0] / (norms[1] + DELTA)).clamp(0, LARGEST_WEIGHT).detach()

    def _steps(self, plays: bool) -> dict[str, Tensor]:
        generator, discriminator = self.optimizers()  # type: ignore[attr-defined]
        schedulers = self.lr_schedulers() or []
        figures: dict[str, Tensor] = {}
        if plays:
            self._step(discriminator, "discriminator", figures)
            for regularizer in self.regularizers.values():
                regularizer.after_step(self.model.discriminator)
        turns, left = divmod(self._steps_taken + 1, self.discriminator_steps)
        steps = self.generator_steps if left == 0 else 0
        for i in range(steps):
            with _frozen(self.players.discriminator):
                self._generator_backward((turns - 1) * self.generator_steps + i, plays)
            self._step(generator, "generator", figures)
            if self.ema is not None:
                self.ema.update(self.model)
        if schedulers and self.schedule_interval == "step":
            generator_schedule, discriminator_schedule = schedulers  # type: ignore[misc]
            if plays:
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
        if self.schedule_interval == "epoch" and (schedulers := self.lr_schedulers()):
            generator_schedule, discriminator_schedule = schedulers  # type: ignore[misc]
            generator_schedule.step()
            if self.images_seen > self.discriminator_start:
                discriminator_schedule.step()

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        """D on examples it was not trained on: far below ``train/accuracy_real``, it has memorised its data.

        The model's further terms are those of the weights that sample.
        """
        x, y = batch
        num = len(x) - len(x) % self.model.pack
        if self.loss.calibrated and num and self._discriminator_plays:
            accuracy = (self.model.discriminator(x[:num], y[:num]) > 0).float().mean()
            self._log_mean({"val/accuracy_real": accuracy}, num)
        model = self.sampling_model
        assert isinstance(model, AdversarialModel)
        if model.has_terms:
            self._log_mean({f"val/{name}": value for name, value in model.play(x, y).terms.items()}, len(x))

    def _log_mean(self, figures: Mapping[str, Tensor], num: int) -> None:
        """Log means over the validation set, of a batch of ``num`` examples."""
        self.log_dict(figures, on_step=False, on_epoch=True, logger=False, sync_dist=True, batch_size=num)


def _modules(found: Mapping[str, Any] | None) -> Any:
    """Those that are not null, in a module that holds them by their names."""
    return nn.ModuleDict({name: module for name, module in (found or {}).items() if module is not None})


def _turns_compile(model: nn.Module) -> bool:
    """Not with convolutions: R3GAN's ResNet took minutes to compile on a CPU, and stepped half as fast then."""
    has_convolutions = any(isinstance(module, _ConvNd) for module in model.modules())
    return hasattr(torch._dynamo.config, "trace_autograd_ops") and not has_convolutions


def _differentiable_twice(needed: bool) -> AbstractContextManager[Any]:
    """Where that is needed, compiled players play as they are written: what torch.compile makes has one derivative.

    Unless both derivatives are compiled as one.
    """
    if not needed or torch.compiler.is_compiling():
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def _frozen(parameters: Iterable[nn.Parameter]) -> Any:
    """G's gradient passes through D and leaves none there."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
