"""Training by minimizing one scalar: VAEs, flows, autoregressive models, transformers."""

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from pydantic import PositiveFloat
from torch import Tensor
from torch.optim import Optimizer

from genlab.data.module import DataModule
from genlab.metrics.drawing import evaluating, own_randomness
from genlab.models.base import LikelihoodModel, ObjectiveModel
from genlab.training.module import Compilable, OptimizerFactory, TrainingModule
from genlab.training.whole import whole


class ObjectiveTraining(TrainingModule):
    """Training procedure with one loss and one optimizer, using Lightning's automatic optimization.

    The logs contain the figures of ``model.loss`` as ``train/*`` and ``val/*``, and ``bits_per_dim`` if the model has a
    likelihood of discrete data.

    Args:
        model: model that computes the loss.
        optimizer: function from parameters to their optimizer.
        skip_above: a step is left out if the norm of its gradient, before clipping, is above this number or not a
            number, as in Very Deep VAEs (arXiv:2011.10650); the logs count such steps. It makes every step wait for the
            device. None takes every step.
        **options: further options of :class:`~genlab.training.module.TrainingModule`.
    """

    model: ObjectiveModel
    progress = (*TrainingModule.progress, "_gradient_norm", "skipped_steps")

    def __init__(
        self,
        model: ObjectiveModel,
        optimizer: OptimizerFactory,
        *,
        skip_above: PositiveFloat | None = None,
        **options: Any,
    ) -> None:
        super().__init__(model, **options)
        self.optimizer, self.skip_above = optimizer, skip_above
        self.skipped_steps = 0
        self._skipped = False  # whether the latest step was left out
        self._gradient_norm: Tensor | None = None

    def setup(self, stage: str) -> None:
        self.trainer.accumulate_grad_batches = self.accumulate

    def compilable(self, graphs: bool) -> list[Compilable]:
        return [Compilable("loss", self.model, "loss")]

    def losses(self, x: Tensor, y: Tensor) -> list[Tensor]:
        return [self.model.loss(x, y)["loss"]]

    def configure_optimizers(self) -> Any:
        optimizer = self.make_optimizer(self.optimizer, [p for p in self.model.parameters() if p.requires_grad])
        scheduler = self.make_schedule(optimizer)
        if scheduler is None:
            return optimizer
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "interval": self.schedule_interval, "frequency": 1},
        }

    def _figures(self, model: ObjectiveModel, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        figures = model.loss(x, y)
        return {**figures, **self._units(model, figures)}

    @staticmethod
    def _units(model: ObjectiveModel, figures: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Convert a likelihood of discrete data, in nats, to bits/dim; nothing for other models."""
        if isinstance(model, LikelihoodModel) and model.discrete and "nll" in figures:
            return {"bits_per_dim": model.bits_per_dim(figures["nll"].detach())}
        return {}

    def figures_of_validation(self, data: DataModule) -> set[str] | None:
        """List the names of the figures that validation logs, by computing them for two examples."""
        x, y = data.some("val", 2)
        model = self.sampling_model
        assert isinstance(model, ObjectiveModel)
        with own_randomness(0, x.device), evaluating(model):
            return {*self._figures(model, x, y), *data.per_example("val")}

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        x, y = batch
        self.model.prepare(self.images_seen)
        figures = self.model.loss(x, y)
        logged = figures if self._gradient_norm is None else {**figures, "gradient_norm": self._gradient_norm}
        if self.skip_above is not None:
            logged = {**logged, "skipped_steps": torch.tensor(float(self.skipped_steps), device=x.device)}
        self.record(
            x, logged, partial(self._units, self.model, {name: value.detach() for name, value in figures.items()})
        )
        return figures["loss"]

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        x, y = batch
        model = self.sampling_model
        assert isinstance(model, ObjectiveModel)
        figures = {f"val/{name}": value for name, value in self._figures(model, x, y).items()}
        for name, divisor in self.trainer.datamodule.per_example("val").items():  # type: ignore[attr-defined]
            figures[f"val/{name}"] = figures["val/nll"] / divisor
        self.log_dict(figures, on_step=False, on_epoch=True, logger=False, sync_dist=True, batch_size=len(x))

    def configure_gradient_clipping(self, optimizer: Optimizer, *_: Any, **__: Any) -> None:
        self._gradient_norm = self.clip(optimizer)
        if self.skip_above is None:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
        norm = self._gradient_norm
        if norm is None:
            norm = whole(torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None]))
        size = float(norm)
        self._skipped = math.isnan(size) or size > self.skip_above
        if self._skipped:
            self.skipped_steps += 1
            for parameter in parameters:
                parameter.grad = None  # an optimizer leaves a weight without a gradient as it is, decay included

    def optimizer_step(self, *args: Any, **kwargs: Any) -> None:
        super().optimizer_step(*args, **kwargs)
        if not self._skipped:
            self.update_average(self.images_seen)
