"""Show the latents of test images in the colours of their classes."""

from dataclasses import dataclass
from typing import ClassVar

from genlab.pictures.scatter import scatter_classes
from genlab.runs.loading import Run
from genlab.views.latents import Latents
from genlab.views.view import Shown, View


@dataclass(frozen=True, kw_only=True)
class LatentScatter(View):
    """A view that encodes test images and draws their latents as points in the plane.

    Args:
        n: number of test images, spread over the whole test set.
    """

    mode: ClassVar[str] = "scatter"

    n: int = 5000

    def show(self, run: Run) -> Shown:
        latents = Latents(run.model, self.seed)
        x, y = run.data.some("test", self.n)
        z = latents.encode(x, y)
        return Shown(scatter_classes(z, y), z, are_examples=False)
