"""The command run in this process, what came of it, and settings under which a run takes seconds."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Result:
    code: int
    out: str
    err: str
    outputs: Path

    @property
    def run(self) -> Path:
        """The one run folder that the command made."""
        (config,) = self.outputs.rglob("config.yaml")
        return config.parent


Genlab = Callable[..., Result]
Trained = Callable[..., Path]
FAST = ("trainer.max_epochs=2", "dataset.train_size=256", "metrics.num_samples=80", "logger=csv")
