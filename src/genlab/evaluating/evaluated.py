"""The result of measuring something once: the figures, and what they are of."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genlab.metrics.result import Result


@dataclass(frozen=True)
class Evaluated:
    """The figures of one evaluation.

    Attributes:
        folder: folder whose ``evaluation.json`` has them: a run's, or a new one for sets of images.
        figures: results with their protocols, by name.
        checkpoint: checkpoint that was measured; None without a run.
        weights: weights that were measured; None without a run.
        sampling: changes to the run's sampling settings.
    """

    folder: Path
    figures: Mapping[str, Result]
    checkpoint: str | None = None
    weights: str | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Give all of it as plain values."""
        return {
            "folder": str(self.folder),
            "checkpoint": self.checkpoint,
            "weights": self.weights,
            "sampling": dict(self.sampling),
            "figures": {name: result.to_json() for name, result in self.figures.items()},
        }
