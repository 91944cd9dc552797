"""Show samples on one picture: images side by side, points over points of the data."""

from dataclasses import dataclass
from typing import ClassVar

from genlab.machine.progress import with_progress
from genlab.metrics.drawing import density_in_plane, draw
from genlab.pictures.labels import captioned
from genlab.runs.loading import Run
from genlab.views.view import Shown, View, chosen_classes


@dataclass(frozen=True, kw_only=True)
class Grid(View):
    """A view that draws ``n`` samples.

    Args:
        n: number of samples.
        classes: class of the samples of a class-conditional model, or a list of classes to take in turns; None draws
            classes at random.
    """

    mode: ClassVar[str] = "grid"

    n: int = 64
    classes: int | list[int] | None = None

    @property
    def name(self) -> str:
        return f"seed{self.seed}-n{self.n}"

    def check(self, run: Run) -> None:
        """Accept every run: anything can be sampled."""

    def show(self, run: Run) -> Shown:
        model, y = run.model, chosen_classes(run, self.classes, self.n)
        with with_progress("samples", self.n) as advance:
            samples = draw(model, self.n, seed=self.seed, y=y, decode=run.decode, advance=advance)
        real = run.data.first("test", 1000) if run.modality.is_overlaid else None
        rendering = run.modality.render(samples, real, density=density_in_plane(model))
        assert rendering.picture is not None
        picture = rendering.picture
        if self.classes is not None:
            given = [self.classes] if isinstance(self.classes, int) else self.classes
            words = f"class {given[0]}" if len(given) == 1 else f"in turns, classes {', '.join(map(str, given))}"
            picture = captioned(picture, words)
        return Shown(picture, samples)
