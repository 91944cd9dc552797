"""Show samples at several temperatures side by side, with the same noise in each row."""

from dataclasses import dataclass, replace
from typing import ClassVar

import torch

from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import draw
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.view import Shown, View, chosen_classes


@dataclass(frozen=True, kw_only=True)
class Truncation(View):
    """A view that draws ``n`` samples, each in a row of its own at several temperatures.

    Args:
        n: number of rows.
        temperatures: temperatures of the columns.
        classes: class of the samples of a class-conditional model, or a list of classes to take in turns; None draws
            classes at random.
    """

    mode: ClassVar[str] = "truncation"

    n: int = 8
    temperatures: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    classes: int | list[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if cold := [t for t in self.temperatures if t <= 0]:
            raise InputError(f"temperatures has {cold[0]}: give a number above 0")

    def show(self, run: Run) -> Shown:
        y = chosen_classes(run, self.classes, self.n)
        with with_progress("samples", self.n * len(self.temperatures)) as advance:
            columns = [
                draw(run.model, self.n, seed=self.seed, y=y, sampling=sampling, decode=run.decode, advance=advance)
                for sampling in (replace(run.model.sampling, temperature=t) for t in self.temperatures)
            ]
        samples = torch.stack(columns, 1).flatten(0, 1)
        labels = Labels([f"{t:g}" for t in self.temperatures], title="temperature")
        return Shown(grid(samples, columns=len(columns), labels=labels), samples, len(columns))
