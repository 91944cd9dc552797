"""Several processes that train one model, each on its share of every batch."""

from typing import Any

from pytorch_lightning.strategies import DDPStrategy

from genlab.training.module import TrainingModule


class UnwrappedDDP(DDPStrategy):
    """DDP's processes without its wrapper, for training modules that average their gradients themselves.

    A game's two losses each use a part of the parameters, which the wrapper takes for an error unless it searches the
    graph for unused parameters at every step; and it does not see the second backward of a gradient penalty.
    """

    def configure_ddp(self) -> None:
        pass


def strategy_for(training: TrainingModule, strategy: Any, num_processes: int) -> Any:
    """The strategy as the config names it; none for a process alone; without DDP's wrapper for manual optimization."""
    if num_processes == 1 and strategy in ("ddp", "fsdp"):
        return "auto"
    if strategy == "ddp" and not training.automatic_optimization:
        return UnwrappedDDP()
    return strategy
