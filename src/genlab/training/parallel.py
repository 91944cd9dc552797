"""Data-parallel training: several processes train one model, each on its part of every batch."""

from collections.abc import Mapping
from typing import Any

from pytorch_lightning.strategies import DDPStrategy

from genlab.errors import InputError
from genlab.training.module import TrainingModule


class UnwrappedDDP(DDPStrategy):
    """DDP strategy without the DDP wrapper, for training modules that average their gradients themselves.

    Each loss of a GAN uses only part of the parameters, which the wrapper treats as an error unless it searches the
    graph for unused parameters at every step. It also misses the second backward pass of a gradient penalty.
    """

    def configure_ddp(self) -> None:
        pass


def strategy_for(training: TrainingModule, strategy: Any, num_processes: int) -> Any:
    """Choose Lightning's strategy for a run.

    Args:
        training: training procedure; manual optimization replaces ``"ddp"`` by :class:`UnwrappedDDP`.
        strategy: strategy from the config.
        num_processes: number of processes; a single process needs neither ``"ddp"`` nor ``"fsdp"``.
    """
    if num_processes == 1 and strategy in ("ddp", "fsdp"):
        return "auto"
    if strategy == "fsdp":
        from genlab.training.sharding import Sharded

        return Sharded()
    if strategy == "ddp" and not training.automatic_optimization:
        return UnwrappedDDP()
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
