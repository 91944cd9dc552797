"""Points and rows of a table: real numbers without spatial structure."""

from collections.abc import Sequence

from torch import Tensor

from genlab.errors import InputError
from genlab.modalities.modality import Height, Modality, Rendering
from genlab.pictures.scatter import scatter


class Points(Modality):
    """Modality of points ``(D,)`` as float; the first two coordinates are plotted."""

    name = "points"
    noun = "points"
    is_overlaid = True

    def check(self, shape: Sequence[int]) -> None:
        if len(shape) != 1 or shape[0] < 1:
            raise InputError(f"shape={list(shape)}: points are (D,) of a positive size")

    def render(
        self,
        samples: Tensor,
        real: Tensor | None = None,
        *,
        density: Height | None = None,
        surface: Height | None = None,
    ) -> Rendering:
        return Rendering(scatter(samples, real, surface, density))

    def num_shown(self, num: int) -> int:
        return 16 * num  # a point needs less space than an image
