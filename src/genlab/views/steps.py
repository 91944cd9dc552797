"""Show how noise becomes images, with models that are sampled in steps."""

from dataclasses import dataclass
from typing import ClassVar

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.metrics.drawing import evaluating
from genlab.models.abilities import GoesInSteps
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.view import Shown, View, chosen_classes, numbered


@dataclass(frozen=True, kw_only=True)
class Steps(View):
    """A view of samples on their way from noise, one row for each.

    Args:
        n: number of samples.
        steps: number of states in a row, from noise to the sample.
        classes: class of all samples, or a list of classes to take in turns; None to draw them.
    """

    mode: ClassVar[str] = "steps"

    n: int = 8
    steps: int = 8
    classes: int | list[int] | None = None

    @property
    def name(self) -> str:
        classes = [self.classes] if isinstance(self.classes, int) else self.classes
        return super().name + numbered([f"steps{self.steps}"], classes)

    def check(self, run: Run) -> None:
        super().check(run)
        if run.is_coded:
            raise InputError(f"mode={self.mode} is for images; this run's model draws codes or latents")
        if not isinstance(run.model, GoesInSteps):
            raise InputError(f"mode={self.mode} is for models that go from noise to data, such as diffusion/ddpm")
        if self.steps < 2:
            raise InputError(f"steps={self.steps}: a row has at least two states, noise and sample")

    def show(self, run: Run) -> Shown:
        model = run.model
        assert isinstance(model, GoesInSteps)
        with evaluating(model):
            states = model.states(
                self.n,
                chosen_classes(run, self.classes, self.n),
                generator=generators(self.seed, range(self.n)),
                sampling=model.sampling,
                num_states=self.steps,
            )
        images = states.transpose(0, 1).flatten(0, 1).cpu()
        shares = [f"{i / (len(states) - 1):.0%}" for i in range(len(states))]
        labels = Labels(["noise", *shares[1:-1], "sample"], title="share of the steps that are done")
        return Shown(
            grid(images, columns=len(states), labels=labels), images, len(states), moves=True, captions=labels.columns
        )
