"""Data-parallel training: several processes train one model, each on its part of every batch."""

from collections.abc import Mapping
from typing import Any

import torch
from pytorch_lightning.strategies import DDPStrategy
from torch.nn.parallel import DistributedDataParallel

from genlab.errors import InputError
from genlab.training.module import TrainingModule


class UnwrappedDDP(DDPStrategy):
    """DDP strategy without the DDP wrapper, for training modules that average their gradients themselves.

    Each loss of a GAN uses only part of the parameters, which the wrapper treats as an error unless it searches the
    graph for unused parameters at every step. It also misses the second backward pass of a gradient penalty.
    """

    def configure_ddp(self) -> None:
        pass


class SteadyDDP(DDPStrategy):
    """DDP strategy whose first step adds gradients in the order of all others, so that resumed runs repeat every bit.

    The order in which a gradient is added over processes depends on its place among the others that are exchanged with
    it. The wrapper changes these places after its first step, as gradients arrived in it; a resumed run would take the
    first step after its checkpoint with the places of a first step.
    """

    def configure_ddp(self) -> None:
        super().configure_ddp()
        assert isinstance(self.model, DistributedDataParallel)
        settle(self.model)


def settle(model: DistributedDataParallel) -> None:
    """Let the wrapper place gradients for all steps to come, as if they arrived from the last parameter to the first.

    Args:
        model: wrapper that has not taken a step.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    model.reducer.prepare_for_backward([])
    for parameter in reversed(parameters):
        torch.autograd.backward([parameter], [torch.zeros_like(parameter)])
    model.reducer._rebuild_buckets()
    for parameter in parameters:
        parameter.grad = None


def strategy_for(training: TrainingModule, strategy: Any, num_processes: int) -> Any:
    """Choose Lightning's strategy for a run.

    Args:
        training: training procedure; ``"ddp"`` is :class:`UnwrappedDDP` for manual optimization, else
            :class:`SteadyDDP`.
        strategy: strategy from the config.
        num_processes: number of processes; a single process needs neither ``"ddp"`` nor ``"fsdp"``.
    """
    if num_processes == 1 and strategy in ("ddp", "fsdp"):
        return "auto"
    if strategy == "fsdp":
        from genlab.training.sharding import Sharded

        return Sharded()
    if strategy == "ddp":
        return SteadyDDP() if training.automatic_optimization else UnwrappedDDP()
    return strategy


def check_strategy(training: TrainingModule, trainer: Mapping[str, Any], num_processes: int) -> None:
    """Check that a training procedure can be divided as the trainer's config asks for.

    Args:
        training: training procedure.
        trainer: config of the trainer, as plain values.
        num_processes: number of processes of the run, on all machines.

    Raises:
        InputError: if it cannot.
    """
    if trainer.get("strategy") != "fsdp" or num_processes == 1:
        return
    if not training.automatic_optimization:
        raise InputError("trainer.strategy=fsdp divides models that are trained by one loss, not games: trainer=ddp")
    if str(trainer.get("precision")) in ("16-mixed", "16"):
        raise InputError("trainer.precision=16-mixed: with trainer.strategy=fsdp, bf16-mixed or 32-true")
