"""Samples beside the training images that they are nearest to."""

from dataclasses import dataclass
from typing import ClassVar

from genlab.composition.building import build
from genlab.machine.progress import with_progress
from genlab.metrics.measure import draw
from genlab.runs.loading import Run
from genlab.views.view import Shown, View, chosen_classes


@dataclass(frozen=True, kw_only=True)
class Nearest(View):
    """Draw ``n`` samples, and find the five training images nearest to each by the run's features.

    Args:
        n: number of samples.
        classes: class of a class-conditional model's samples, or several in turns; None draws them.
        cache_dir: folder that keeps the features of training images; None for nowhere.
    """

    mode: ClassVar[str] = "nearest"

    n: int = 8
    classes: int | list[int] | None = None
    cache_dir: str | None = None

    def show(self, run: Run) -> Shown:
        y = chosen_classes(run, self.classes, self.n)
        with with_progress("samples", self.n) as advance:
            samples = draw(
                run.model, self.n, seed=self.seed, y=y, temperature=self.temperature, decode=run.decode, advance=advance
            )
        metrics = build({**run.config["metrics"], "cache_dir": self.cache_dir}, "metrics")
        return Shown(metrics.beside_neighbours(samples, run.data, run.device), samples)
