"""Base of the training procedures: counts images, averages weights, logs, and validates with separate randomness."""

import inspect
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytorch_lightning as pl
import torch
from pydantic import PositiveFloat, PositiveInt
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from genlab.data.module import DataModule
from genlab.distributions.noise import mix
from genlab.errors import Diverged, InputError
from genlab.models.base import GenerativeModel
from genlab.training.ema import ExponentialMovingAverage
from genlab.training.ema_images import AverageOverImages
from genlab.training.optimizers import check_settings
from genlab.training.processes import share_buffers
from genlab.training.randomness import State, capture, gathered, restore
from genlab.training.rollback import in_any_process, scale_steps
from genlab.training.whole import whole

OptimizerFactory = Callable[..., Optimizer]
ScheduleFactory = Callable[..., LRScheduler | None]
Later = Callable[[], Mapping[str, Tensor]]


@dataclass(frozen=True)
class Compilable:
    """An expensive function of training, to be replaced by its compiled version.

    Attributes:
        name: name of the function in messages.
        owner: object that has the function as an attribute.
        attribute: name of the attribute.
        takes_gradients: whether the function computes gradients inside, as a gradient penalty does.
        backward_twice: whether there are several backward passes through one call.
    """

    name: str
    owner: Any
    attribute: str
    takes_gradients: bool = False
    backward_twice: bool = False


def _is_empty(value: Any) -> bool:
    return isinstance(value, dict) and not value


class TrainingModule(pl.LightningModule):
    """The base class of the training procedures.

    Progress is counted in images seen over all devices, because Lightning's ``global_step`` counts optimizer steps, of
    which a GAN takes several per batch.

    Args:
        model: model to train.
        schedule: function from ``(optimizer, total_steps=...)`` to a learning-rate scheduler, or to None for a constant
            rate; None for a constant rate.
        schedule_interval: whether the scheduler advances every optimizer ``"step"`` or every ``"epoch"``.
        gradient_clip: upper limit on the norm of the gradient; None for no clipping.
        accumulate: number of batches whose gradients are accumulated to one step.
        ema_decay: decay of the averaged weights, which validation, sampling and evaluation then use; None to use the
            trained weights. Submodules used only in training, such as a discriminator, are not averaged.
        ema_images: half-life of the average in images, in place of ``ema_decay``; None for a decay per step.
        ema_ramp: upper limit on this half-life as a share of the images seen so far; None for no limit.
        images: number of images after which training ends, in addition to Lightning's own limits; None for no limit.
        channels_last: whether convolutions use the channels-last memory format, which is faster for many of them.
        fused: whether the optimizer updates all weights in one kernel, if it has one and gradients are not scaled.
        on_nan: what a loss or a weight that is NaN or infinite does: ``"end"`` ends the run, and ``"rollback"`` lets it
            go on from its newest checkpoint with smaller steps.
        rollback_factor: factor of the learning rates for each time that the run has gone back, between 0 and 1.
        max_rollbacks: number of times that the run may go back; the next time ends it.

    Attributes:
        rollbacks: number of times that the run has gone back.
        going_back_to: number of rollbacks to begin the training with; None for that of the checkpoint.
        progress: names of the attributes that checkpoints contain.
    """

    progress: ClassVar[tuple[str, ...]] = ("images_seen", "batches_seen", "rows_logged", "_logged_at", "rollbacks")

    def __init__(
        self,
        model: GenerativeModel,
        *,
        schedule: ScheduleFactory | None = None,
        schedule_interval: Literal["step", "epoch"] = "step",
        gradient_clip: PositiveFloat | None = None,
        accumulate: int = 1,
        ema_decay: float | None = None,
        ema_images: PositiveFloat | None = None,
        ema_ramp: PositiveFloat | None = None,
        images: PositiveInt | None = None,
        channels_last: bool = False,
        fused: bool = True,
        on_nan: Literal["end", "rollback"] = "end",
        rollback_factor: PositiveFloat = 0.5,
        max_rollbacks: PositiveInt = 3,
    ) -> None:
        super().__init__()
        if not 0 < rollback_factor < 1:
            raise InputError(f"rollback_factor={rollback_factor}: a factor that makes steps smaller, between 0 and 1")
        if accumulate < 1:
            raise InputError(f"accumulate={accumulate}: at least one batch makes a step")
        if ema_decay is not None and not 0 <= ema_decay < 1:
            raise InputError(f"ema_decay={ema_decay}: expected a number in [0, 1), or null")
        if ema_images is not None and ema_decay is not None:
            raise InputError(f"ema_images={ema_images}, ema_decay={ema_decay}: set one of them to null")
        if ema_ramp is not None and ema_images is None:
            raise InputError(f"ema_ramp={ema_ramp}: it limits ema_images, which is null")
        self.model = model.to(memory_format=torch.channels_last) if channels_last else model
        self.ema: ExponentialMovingAverage | None = None
        if ema_images is not None:
            self.ema = AverageOverImages(self.model, ema_images, ema_ramp, shared=model.training_only)
        elif ema_decay is not None:
            self.ema = ExponentialMovingAverage(self.model, ema_decay, shared=model.training_only)
        self.schedule, self.schedule_interval = schedule, schedule_interval
        self.gradient_clip, self.accumulate, self.images = gradient_clip, accumulate, images
        self.fused = fused
        self.on_nan, self.rollback_factor, self.max_rollbacks = on_nan, rollback_factor, max_rollbacks
        self.rollbacks = 0
        self.going_back_to: int | None = None
        self.images_seen = 0
        self.batches_seen = 0
        self._latest: dict[str, Tensor] = {}  # figures of the last step, still on the device
        self._later: Later | None = None  # computes those of them that nobody has asked for yet
        self.overwrites_outputs = False  # whether the next step overwrites what this one computed, as CUDA graphs do
        self._read: tuple[dict[str, Tensor], dict[str, float]] | None = None  # figures that were read, and as what
        self.reported: dict[str, tuple[float, int]] = {}  # validation figures, each with the number of images seen
        self._on_their_own: set[str] = set()  # names of reported figures that are not logged by the validation loop
        self._logged_at = 0
        self.rows_logged = 0
        self._rng: State | None = None  # random state of training, saved during validation
        self._resumed: list[State] = []  # random states of all processes, from a checkpoint

    def __setattr__(self, name: str, value: Any) -> None:
        # Lightning sets this name around every hook; nn.Module would look each time whether it is a weight.
        if name == "_current_fx_name":
            self.__dict__[name] = value
        else:
            super().__setattr__(name, value)

    def check(self, data: DataModule) -> None:
        """Check that this procedure can train on the data, and that its optimizers accept their settings.

        Raises:
            InputError: if it cannot, or one does not.
        """
        weights = [p for p in self.model.parameters() if p.requires_grad]
        for name, factory in vars(self).items():
            if name == "optimizer" or name.endswith("_optimizer"):
                check_settings(factory, weights, f"training.{name}")

    def figures_of_validation(self, data: DataModule) -> set[str] | None:
        """List the names of the figures that validation logs, without ``val/``; None if they are not known before.

        Args:
            data: data to train on, set up.
        """
        return None

    def compilable(self, graphs: bool) -> list[Compilable]:
        """List the functions that torch.compile may replace.

        Args:
            graphs: whether the functions will be compiled with CUDA graphs.
        """
        return []

    def losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        """Compute what a step minimizes, one loss for each optimizer, to see how long that takes.

        Args:
            x: examples, ``(B, ...)``.
            y: classes of the examples, ``(B,)``.
        """
        raise NotImplementedError

    @property
    def sampling_model(self) -> GenerativeModel:
        """The model used for sampling: the averaged model if there is one, otherwise the trained model."""
        return self.ema.model if self.ema is not None else self.model  # type: ignore[return-value]

    def update_average(self, images: int) -> None:
        """Update the averaged weights, if there are any, after a step.

        Args:
            images: number of images seen, including those of the step.
        """
        if isinstance(self.ema, AverageOverImages):
            self.ema.update_at(images, self.model)
        elif self.ema is not None:
            self.ema.update(self.model)

    # -- length and schedule -------------------------------------------------------------------------------------------

    def total_batches(self) -> int | None:
        """Return the number of batches in the whole run; None if only time limits it."""
        trainer = self.trainer
        trainer.fit_loop.setup_data()
        limits: list[float] = []
        if trainer.max_epochs is not None and trainer.max_epochs >= 0:
            limits.append(trainer.max_epochs * trainer.num_training_batches)
        if self.images is not None:
            limits.append(-(-self.images // self._batch_size()))
        if trainer.max_steps >= 0:
            limits.append(self.batches_of_steps(trainer.max_steps, self._batch_size()))
        limit = min(limits, default=float("inf"))
        return None if limit == float("inf") else int(limit)

    def batches_of_steps(self, steps: int, batch_size: int) -> float:
        """Compute the number of batches after which ``global_step``, the steps of all optimizers, equals ``steps``.

        Args:
            steps: number of steps.
            batch_size: number of examples in a batch, over all processes.
        """
        return float(steps * self.accumulate)

    def _batch_size(self) -> int:
        return int(self.trainer.datamodule.batch_size)  # type: ignore[attr-defined]

    def make_optimizer(self, factory: OptimizerFactory, parameters: Iterable[nn.Parameter]) -> Optimizer:
        """Build an optimizer, fused if requested and possible.

        It is not fused if float16 gradients are scaled, because a fused kernel would unscale them after clipping.

        Args:
            factory: function from parameters to an optimizer.
            parameters: parameters to optimize.
        """
        made = getattr(factory, "func", factory)
        has_kernel = "fused" in inspect.signature(made).parameters
        given = "fused" in getattr(factory, "keywords", {})
        fused = {"fused": True} if self.fused and has_kernel and not given and self._scaler() is None else {}
        optimizer = factory(parameters, **fused)
        scale_steps(optimizer, lambda: self.step_scale)
        return optimizer

    @property
    def step_scale(self) -> float:
        """The factor of the learning rates; 1 for a run that has never gone back."""
        return self.rollback_factor**self.rollbacks

    def _scaler(self) -> Any:
        """Return the scaler of float16 gradients; None for other precisions."""
        return getattr(self.trainer.precision_plugin, "scaler", None) if self._trainer is not None else None

    def make_schedule(self, optimizer: Optimizer, steps_per_batch: float = 1.0, skipped: int = 0) -> LRScheduler | None:
        """Build the learning-rate schedule of an optimizer; None if the rate is constant.

        Args:
            optimizer: optimizer whose rate the schedule sets.
            steps_per_batch: number of steps that the optimizer takes per batch, without accumulation.
            skipped: number of batches at the start of the run in which the optimizer takes no steps.
        """
        if self.schedule is None:
            return None
        batches = self.total_batches()
        if batches is None:
            return self.schedule(optimizer, total_steps=None)
        batches = max(1, batches - skipped)
        if self.schedule_interval == "epoch":
            return self.schedule(optimizer, total_steps=-(-batches // int(self.trainer.num_training_batches)))
        return self.schedule(optimizer, total_steps=max(1, int(batches / self.accumulate * steps_per_batch)))

    # -- a step's bookkeeping ------------------------------------------------------------------------------------------

    def record(self, x: Tensor, metrics: Mapping[str, Tensor], later: Later | None = None) -> None:
        """Count a batch, and log its figures at the logging interval; between logs, figures stay on the device.

        Args:
            x: examples of the batch on this process.
            metrics: figures of the step that its computation gives anyway.
            later: function that computes the others from what the step keeps. It is called when the figures of this
                step are read, which those of most steps are not; and at once if the next step overwrites what is kept.
        """
        self.images_seen += len(x) * self.trainer.world_size
        self.batches_seen += 1
        self.latest = {f"train/{name}": value.detach() for name, value in metrics.items()}
        self._later = later
        if self.overwrites_outputs:
            self._compute_later()
        if self.is_logged(self.batches_seen):
            self._log_latest()

    @property
    def latest(self) -> dict[str, Tensor]:
        """Figures of the last step by name, on the device."""
        self._compute_later()
        return self._latest

    @latest.setter
    def latest(self, figures: dict[str, Tensor]) -> None:
        self._latest, self._later = figures, None

    def _compute_later(self) -> None:
        if self._later is not None:
            later, self._later = self._later, None
            with torch.no_grad():
                self._latest |= {f"train/{name}": value for name, value in later().items()}

    def is_logged(self, batches: int) -> bool:
        """Tell whether the figures of a step are logged, given the number of batches up to it; never at interval 0."""
        every = self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        return every > 0 and batches % every == 0

    def latest_values(self) -> dict[str, float]:
        """Read the figures of the last step from the device, all in one transfer, and at most once."""
        latest = self.latest
        if self._read is None or self._read[0] is not latest:
            values = torch.stack([value.float() for value in latest.values()]).tolist() if latest else []
            self._read = latest, dict(zip(latest, values, strict=True))
        return self._read[1]

    def _log_latest(self) -> None:
        if self._logged_at != self.images_seen:
            self._logged_at = self.images_seen
            figures = self.latest_values()
            self.log_now(figures)
            wrong = [name for name, value in figures.items() if name.endswith("loss") and not math.isfinite(value)]
            if self._is_wrong(bool(wrong)):
                what = f"{wrong[0]} is {figures[wrong[0]]}" if wrong else "a loss of another process is not finite"
                raise Diverged(what, self.images_seen, self.batches_seen)

    def _is_wrong(self, here: bool) -> bool:
        """Tell whether to end the training, here or because of another process: only all together can go back."""
        return in_any_process(here, self.device) if self.on_nan == "rollback" else here

    def check_weights(self) -> None:
        """Raise Diverged if a weight is not finite."""
        if self._is_wrong(not self.is_finite()):
            raise Diverged("weights are NaN or infinite", self.images_seen, self.batches_seen)

    def log_now(self, metrics: Mapping[str, float]) -> None:
        """Send figures to the loggers, with the number of images seen as the step."""
        self.rows_logged += 1
        for logger in self.trainer.loggers:
            logger.log_metrics({**metrics, "images_seen": self.images_seen}, step=self.images_seen)

    def report(self, figures: Mapping[str, float]) -> None:
        """Log figures measured just now, and make them available to checkpoint selection and early stopping.

        Every process has to call this. The figures of the first count for all: on machines of several kinds they may
        differ in the last digits, and the processes must not differ in whether they save the best weights.
        """
        figures = self.trainer.strategy.broadcast(dict(figures))
        self.log_now(figures)
        for name, value in figures.items():
            self.log(name, value, logger=False, batch_size=1)
            self._on_their_own.add(name)
            self.reported[name] = (value, self.images_seen)

    def clip(self, optimizer: Optimizer) -> Tensor | None:
        """Clip the gradients of an optimizer, and return their norm before clipping; None without clipping."""
        if self.gradient_clip is None:
            return None
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        norm: Tensor = whole(torch.nn.utils.clip_grad_norm_(parameters, self.gradient_clip))
        return norm

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.images is not None and self.images_seen >= self.images:
            self.trainer.should_stop = True

    def on_train_epoch_start(self) -> None:
        self.log_now({"epoch": self.current_epoch, "train/lr": self._learning_rate()})

    def on_train_epoch_end(self) -> None:
        self._log_latest()  # an epoch may be shorter than the logging interval

    def _learning_rate(self) -> float:
        return float(self.trainer.optimizers[0].param_groups[0]["lr"]) * self.step_scale

    # -- validation draws its own randomness ---------------------------------------------------------------------------

    def on_validation_start(self) -> None:
        share_buffers(self)
        self._rng = capture(self.device)
        torch.manual_seed(mix(0, self.trainer.global_rank) if self.trainer.global_rank else 0)

    def on_validation_end(self) -> None:
        assert self._rng is not None
        restore(self._rng, self.device)
        self._rng = None

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            return
        figures = {
            name: float(value)
            for name, value in self.trainer.callback_metrics.items()
            if name.startswith("val/") and name not in self._on_their_own
        }
        self.log_now(figures)
        self.reported |= {name: (value, self.images_seen) for name, value in figures.items()}

    # -- checkpoints ---------------------------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        share_buffers(self)
        values = {name: getattr(self, name) for name in self.progress}
        checkpoint["progress"] = {name: value for name, value in values.items() if not _is_empty(value)}
        checkpoint["randomness"] = gathered(self._rng or capture(self.device))
        if isinstance(data := getattr(self.trainer, "datamodule", None), DataModule):
            checkpoint["data"] = data.identity  # so that a run is not continued, or measured, on other examples

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        for name in self.progress:
            if name in checkpoint["progress"]:  # checkpoints of earlier versions may lack it
                setattr(self, name, checkpoint["progress"][name])
        self._resumed = checkpoint["randomness"]

    def on_train_start(self) -> None:
        if self.going_back_to is not None:
            self.rollbacks = self.going_back_to
            self.log_now({"rollbacks": self.rollbacks})
        if self._resumed:
            if len(self._resumed) == self.trainer.world_size:
                restore(self._resumed[self.trainer.global_rank], self.device)
            else:  # the number of processes changed: new random streams, so the run is not reproduced bit by bit
                torch.manual_seed(mix(self.images_seen, self.trainer.global_rank))
            self._resumed = []
        elif self.trainer.global_rank > 0:  # different noise per process; rank 0 draws as a single process would
            torch.manual_seed(mix(torch.initial_seed(), self.trainer.global_rank))

    def at_boundary(self, batch_idx: int) -> bool:
        """Tell whether this batch completes a step, so that no accumulated gradients are missing in a checkpoint."""
        return (batch_idx + 1) % self.accumulate == 0 or batch_idx + 1 == self.trainer.num_training_batches

    def is_finite(self) -> bool:
        """Tell whether all weights are finite."""
        norms = torch._foreach_norm([p.detach() for p in self.model.parameters()])
        return bool(torch.stack(norms).isfinite().all())
