"""Show samples of each class in a row, with the same noise in each column."""

from dataclasses import dataclass
from typing import ClassVar

import torch

from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import draw
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.view import Shown, View


@dataclass(frozen=True, kw_only=True)
class Classes(View):
    """A view that draws ``n`` samples of each class.

    Args:
        n: number of samples of each class.
        classes: class of the only row, or classes of the rows; None for the first 20 classes.
    """

    mode: ClassVar[str] = "classes"

    n: int = 8
    classes: int | list[int] | None = None

    def check(self, run: Run) -> None:
        super().check(run)
        if run.model.num_classes is None:
            raise InputError("mode=classes: this run's model is not class-conditional")

    def show(self, run: Run) -> Shown:
        given = [self.classes] if isinstance(self.classes, int) else self.classes
        rows = given or list(range(min(run.model.num_classes or 0, 20)))
        drawn = []
        with with_progress("samples", self.n * len(rows)) as advance:
            for k in rows:
                y = torch.full((self.n,), k)
                drawn.append(
                    draw(
                        run.model, self.n, seed=self.seed, y=y, decode=run.decode,
                        advance=advance,
                    )
                )  # fmt: skip
        samples = torch.cat(drawn)
        labels = Labels(rows=[f"class {k}" for k in rows])
        return Shown(grid(samples, columns=self.n, labels=labels), samples, self.n)
