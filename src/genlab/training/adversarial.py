"""Alternating training of a generator and a discriminator, with Lightning's manual optimization."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from pydantic import NonNegativeFloat
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer

from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.metrics.drawing import evaluating, own_randomness
from genlab.models.adversarial import AdversarialModel
from genlab.models.gan.augmentation import Augmentation
from genlab.models.gan.losses import AdversarialLoss
from genlab.models.gan.regularizers import Critic, GeneratorRegularizer, Regularizer
from genlab.training.module import Compilable, OptimizerFactory, TrainingModule
from genlab.training.processes import average_gradients

# Upper limit on the adaptive weight, from the code of VQGAN's authors, and delta in the paper's equation.
LARGEST_WEIGHT = 1e4
DELTA = 1e-6


class AdversarialTraining(TrainingModule):
    """Training procedure of GANs, in which the generator G and the discriminator D take steps in turns.

    D takes a step on every batch. After every ``discriminator_steps`` steps of D, G takes ``generator_steps`` steps.
    :meth:`AdversarialModel.play` defines what G generates and which further terms it minimizes; G's loss is the sum of
    these terms and the weighted adversarial loss.

    The logs contain both losses, G's further terms, D's logits and accuracy on real and on generated examples, the
    penalties, and the norms of both gradients (the latter only if the step is logged). Validation logs the further
    terms as ``val/*``.

    Args:
        model: model with generator and discriminator.
        loss: adversarial loss.
        generator_optimizer: function from G's parameters to their optimizer.
        discriminator_optimizer: function from D's parameters to their optimizer.
        regularizers: penalties on D by their names in the logs.
        generator_regularizers: penalties on G by their names in the logs.
        augment: augmentation of all examples that D sees; None for no augmentation.
        discriminator_steps: number of D's steps before G takes its steps.
        generator_steps: number of steps that G then takes.
        generator_batch: number of examples in a batch of G, as a multiple of D's.
        discriminator_start: number of images seen before the training of D starts. Until then, G only minimizes its
            further terms, without the adversarial loss. D's learning-rate schedule starts at the same time.
        adversarial_weight: weight of the adversarial loss in G's loss.
        adaptive_weight: whether to multiply this weight by the ratio of two gradient norms at G's last layer, that of
            G's further terms and that of the adversarial loss: VQGAN (arXiv:2012.09841), equation 7.
        real_noise: width of the uniform noise, from 0 on, that is added to the real examples that D sees; 1/256 is a
            level of images of bytes, as in the code of SNGAN and of WGAN-GP. 0 adds none.
        **options: further options of :class:`~genlab.training.module.TrainingModule`.
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
        real_noise: NonNegativeFloat = 0.0,
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
                "to minimise, because its only loss is the adversarial one; set it to 0"
            )
        self.players = model.players()
        if adaptive_weight and not (model.has_terms and self.players.last_layer is not None):
            raise InputError(
                f"adaptive_weight=true: it is a ratio of gradients at the generator's last layer, and "
                f"{type(model).__name__} names no such layer, or its only loss is the adversarial one; set it to false"
            )
        self.automatic_optimization = False
        self.loss, self.augment = loss, augment
        # Registered as modules, so that their state, such as a mean path length, is in checkpoints and on the device.
        self.regularizers = _modules(regularizers)
        self.generator_regularizers = _modules(generator_regularizers)
        penalties: list[tuple[str, Any]] = [*self.regularizers.items(), *self.generator_regularizers.items()]
        for name, penalty in penalties:
            try:
                penalty.check(model)
            except InputError as error:
                raise InputError(f"gan/regularizer={name}: {error}") from None
        self.discriminator_steps, self.generator_steps = discriminator_steps, generator_steps
        self.generator_batch = generator_batch
        self.discriminator_start = discriminator_start
        self.adversarial_weight, self.adaptive_weight = adversarial_weight, adaptive_weight
        self.real_noise = real_noise
        self.generator_optimizer, self.discriminator_optimizer = generator_optimizer, discriminator_optimizer
        # Batches accumulated in D's gradients, kept because G's step then uses the same batches.
        self._pending: list[tuple[Tensor, Tensor]] = []
        self._last_generator_loss: Tensor | None = None
        self._last_generator_figures: dict[str, Tensor] = {}
        self._gradient_norm: Tensor | None = None
        self._logits: tuple[Tensor, Tensor] | None = None  # D's of the last batch, of real and of generated examples

    def check(self, data: DataModule) -> None:
        super().check(data)
        changing = [name for name, regularizer in self.regularizers.items() if regularizer.of_images]
        changing += [] if self.augment is None else [type(self.augment).__name__]
        if changing and not data.modality.is_tiled:
            raise InputError(f"training: {changing[0]} changes images; this data has none")
        if data.batch_size % self.model.pack:
            raise InputError(
                f"dataset.batch_size={data.batch_size} does not divide into model.pack={self.model.pack} examples each"
            )

    def figures_of_validation(self, data: DataModule) -> set[str] | None:
        """List the names of the figures that validation logs: D's accuracy, and the model's further terms."""
        names = {"accuracy_real"} if self.loss.calibrated else set()
        model = self.sampling_model
        assert isinstance(model, AdversarialModel)
        if model.has_terms:
            x, y = data.some("val", 2 * model.pack)
            with own_randomness(0, x.device), evaluating(model):
                names |= model.play(x, y).terms.keys()
        return names

    def configure_optimizers(self) -> Any:
        generator = self.make_optimizer(self.generator_optimizer, self.players.generator)
        discriminator = self.make_optimizer(self.discriminator_optimizer, self.players.discriminator)
        schedules = [
            self.make_schedule(generator, self.generator_steps / self.discriminator_steps),
            self.make_schedule(discriminator, skipped=self._batches_without_discriminator(self._batch_size())),
        ]
        return [generator, discriminator], [s for s in schedules if s is not None]

    def at_boundary(self, batch_idx: int) -> bool:
        return not self._pending

    def batches_of_steps(self, steps: int, batch_size: int) -> float:
        of_generator = self.generator_steps / self.discriminator_steps
        both = (steps * self.accumulate + self._batches_without_discriminator(batch_size)) / (1 + of_generator)
        return min(both, steps * self.accumulate / of_generator)  # the second is the number if D never starts

    def _batches_without_discriminator(self, batch_size: int) -> int:
        return -(-self.discriminator_start // batch_size)

    @property
    def _discriminator_plays(self) -> bool:
        """Tell whether D's training has started; constant over the batches that are accumulated to one step."""
        counted = self.images_seen - sum(len(x) for x, _ in self._pending) * self.trainer.world_size
        return counted >= self.discriminator_start

    def compilable(self, graphs: bool) -> list[Compilable]:
        players = [
            Compilable(name, module, "forward", backward_twice=self.adaptive_weight)
            for name, module in self.model.named_children()
        ]
        if graphs or not _turns_compile(self.model):
            return players
        # Compile each player's whole loss, including gradient penalties. A network compiled by itself only has a first
        # derivative, and cannot be compiled if its weights are normalized at every call.
        turns = [
            Compilable(name, self, name, takes_gradients=True) for name in ("discriminator_loss", "generator_loss")
        ]
        return [player for player in players if player.name not in self.model.training_only] + turns

    @property
    def _steps_taken(self) -> int:
        """Number of D's steps before this batch."""
        return self.batches_seen // self.accumulate

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        self.model.prepare(self.images_seen)
        plays = self._discriminator_plays
        self._logits = None
        figures = self._discriminator_backward(x, y) if plays else {}
        self._pending.append((x, y))
        if len(self._pending) == self.accumulate:
            figures |= self._steps(plays)
            self._pending = []
        figures |= self._last_generator_figures
        if self._last_generator_loss is not None:
            figures["generator_loss"] = self._last_generator_loss
        self.record(x, figures, self._figures_of_logits if plays else None)

    def losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        with torch.no_grad():
            fake = self.model.play(x, y).fake.float()
        loss, *_ = self.discriminator_loss(x, fake, y, [])
        return [loss, self.generator_loss(x, y)[0]]

    # -- the discriminator ---------------------------------------------------------------------------------------------

    def _critic(self, y: Tensor) -> Critic:
        """Return D as a function of examples alone: with augmentation, the given classes, and logits in float32."""
        return lambda x: self.model.discriminator(x if self.augment is None else self.augment(x), y).float()

    def _noisy(self, x: Tensor) -> Tensor:
        """Add the noise of real examples."""
        return x + self.real_noise * torch.rand_like(x) if self.real_noise else x

    def _discriminator_backward(self, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = self.model.play(x, y).fake.float()  # like real examples, also under autocast
        x = self._noisy(x)
        due = [name for name, penalty in self.regularizers.items() if self._steps_taken % penalty.every == 0]
        for name in due:
            self.regularizers[name].prepare(self.images_seen)
        if due:
            x, fake = x.detach().requires_grad_(), fake.requires_grad_()
        if self.augment is not None:
            self.augment.prepare(self.images_seen)
        loss, real, generated, figures = self.discriminator_loss(x, fake, y, due)
        self._logits = real, generated
        self.manual_backward(self._share(loss))
        if self.augment is not None:
            # If the sign of a logit has no meaning, only differences of logits do.
            certainty = real if self.loss.calibrated else real - generated
            self.augment.update(certainty.repeat_interleave(self.model.pack))
            figures |= self.augment.figures()
        return figures

    def discriminator_loss(
        self, x: Tensor, fake: Tensor, y: Tensor, due: list[str]
    ) -> tuple[Tensor, Tensor, Tensor, dict[str, Tensor]]:
        """Compute the loss of D.

        Args:
            x: real examples ``(B, ...)``, leaf tensors that require gradients if a penalty is due.
            fake: generated examples ``(B, ...)``, likewise.
            y: classes of the examples, ``(B,)``.
            due: names of the penalties to apply in this step.

        Returns:
            The loss, D's logits of the real and of the generated examples, without gradients, and losses to log.
        """
        critic = self._critic(y)
        with _differentiable_twice(bool(due)):
            on_real, on_fake = critic(x), critic(fake)
            penalties = {name: self.regularizers[name].penalty(critic, x, fake, on_real, on_fake) for name in due}
        loss = self.loss.discriminator(on_real, on_fake)
        figures = {"discriminator_loss": loss.detach()}
        for name in due:
            loss = loss + self.regularizers[name].every * penalties[name]
            figures[name] = penalties[name].detach()
        return loss, on_real.detach(), on_fake.detach(), figures

    def _figures_of_logits(self) -> dict[str, Tensor]:
        """Compute means and accuracies of D's logits in the last batch; only the steps that are read need them."""
        if self._logits is None:
            return {}
        real, generated = self._logits
        figures = {"logit_real": real.mean(), "logit_fake": generated.mean()}
        if self.loss.calibrated:
            figures["accuracy_real"] = (real > 0).float().mean()
            figures["accuracy_fake"] = (generated < 0).float().mean()
        else:
            figures["accuracy_pairs"] = (real > generated).float().mean()
        return figures

    def _share(self, loss: Tensor) -> Tensor:
        """Divide a loss by the number of batches that are accumulated."""
        return loss if self.accumulate == 1 else loss / self.accumulate

    # -- the generator, and the steps of both --------------------------------------------------------------------------

    def _generator_backward(self, turn: int, plays: bool) -> None:
        """Accumulate G's gradients over the pending batches, and keep the figures to log."""
        total: Tensor | None = None
        sums: dict[str, Tensor] = {}
        for x, y in self._pending:
            x = x.detach()
            if self.generator_batch > 1:
                x, y = torch.cat([x] * self.generator_batch), y.repeat(self.generator_batch)
            loss, figures = self.generator_loss(x, y, plays)
            part = self._share(loss.detach())
            total = part if total is None else total + part
            for name, value in figures.items():
                part = self._share(value.detach())
                sums[name] = sums[name] + part if name in sums else part
            for regularizer in self.generator_regularizers.values():
                if turn % regularizer.every == 0:
                    with _differentiable_twice(True):
                        penalty = regularizer.penalty(self.model, x, y)
                    loss = loss + regularizer.every * penalty
            self.manual_backward(self._share(loss))
        self._last_generator_loss, self._last_generator_figures = total, sums

    def generator_loss(self, x: Tensor, y: Tensor, plays: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
        """Compute the loss of G without penalties, and its parts to log.

        Args:
            x: real examples, ``(B, ...)``; G generates the same number.
            y: classes of the examples, ``(B,)``.
            plays: whether the training of D has started; before that, the loss is the sum of the model's terms.
        """
        critic = self._critic(y)
        on_real = None
        if plays and self.loss.relative:
            with torch.no_grad():
                on_real = critic(self._noisy(x))
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
        """Compute the ratio of gradient norms of two losses at G's last layer: VQGAN (arXiv:2012.09841), equation 7."""
        scaler, last_layer = self._scaler(), self.players.last_layer
        assert last_layer is not None
        norms = []
        for loss in (terms, adversarial):
            # Float16 gradients underflow unless they are scaled; the scale cancels in the ratio.
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
            # This batch is counted after its steps.
            self.update_average(self.images_seen + len(self._pending[-1][0]) * self.trainer.world_size)
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
        # Autocast caches the cast weights until the batch is done, but the other player's step needs the new weights.
        torch.clear_autocast_cache()
        if self._gradient_norm is not None:
            figures[f"{name}_gradient_norm"] = self._gradient_norm
        optimizer.zero_grad()

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        # At this point, float16 gradients are already unscaled.
        self._gradient_norm = self.clip(optimizer)
        if self._gradient_norm is None and self.is_logged(self.batches_seen + 1):
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
        """Log D's accuracy on held-out examples; if it is far below ``train/accuracy_real``, D memorizes its data.

        The model's further terms are computed with the weights that are used for sampling.
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
        """Log figures of a batch of ``num`` examples, to be averaged over the validation set."""
        self.log_dict(figures, on_step=False, on_epoch=True, logger=False, sync_dist=True, batch_size=num)


def _modules(found: Mapping[str, Any] | None) -> Any:
    """Collect the modules that are not None in a ModuleDict."""
    return nn.ModuleDict({name: module for name, module in (found or {}).items() if module is not None})


def _turns_compile(model: nn.Module) -> bool:
    """Tell whether compiling each player's whole loss is possible and saves time.

    Convolutional networks are excluded: on a CPU, R3GAN took minutes to compile and its steps then took twice as long.
    """
    has_convolutions = any(isinstance(module, _ConvNd) for module in model.modules())
    return hasattr(torch._dynamo.config, "trace_autograd_ops") and not has_convolutions


def _differentiable_twice(needed: bool) -> AbstractContextManager[Any]:
    """Return a context that runs compiled networks uncompiled if a second derivative is needed.

    A compiled function only has a first derivative, unless both derivatives are inside the compiled function.
    """
    if not needed or torch.compiler.is_compiling():
        return nullcontext()
    return torch.compiler.set_stance("force_eager")


@contextmanager
def _frozen(parameters: Iterable[nn.Parameter]) -> Any:
    """Freeze D's parameters inside the context: G's gradient passes through D without accumulating there."""
    learning = [parameter for parameter in parameters if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)
