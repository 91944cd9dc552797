"""Show the values that the prediction of one pixel depends on."""

from dataclasses import dataclass
from typing import ClassVar

from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.receptive_field import receptive_field
from genlab.models.base import AutoregressiveModel
from genlab.pictures.maps import field
from genlab.runs.loading import Run
from genlab.views.view import Shown, View


@dataclass(frozen=True, kw_only=True)
class ReceptiveField(View):
    """A view of the values that an autoregressive model of images uses to predict the last channel of a pixel.

    Args:
        pixel: [row, column] of the pixel, counted from 0; None for the centre.
    """

    mode: ClassVar[str] = "receptive_field"

    pixel: list[int] | None = None

    @property
    def name(self) -> str:
        return f"{self.mode}-{'-'.join(map(str, self.pixel)) if self.pixel else 'centre'}"

    def show(self, run: Run) -> Shown:
        model = run.model
        if not isinstance(model, AutoregressiveModel):
            raise InputError("mode=receptive_field is for autoregressive models of images; this run's model is not one")
        C, H, W = model.shape
        pixel = self.pixel or [H // 2, W // 2]
        if len(pixel) != 2 or not (0 <= pixel[0] < H and 0 <= pixel[1] < W):
            raise InputError(f"pixel={pixel}: give [row,column] of {H} rows and {W} columns, counted from 0")
        row, column = pixel
        place = (C - 1, row, column)
        with with_progress("values changed", model.num_dims) as advance:
            seen = receptive_field(model, place, advance=advance)
        order = model.orders[0].cpu()
        before = order < order[place]
        print(f"the pixel at row {row}, column {column} sees {seen.sum()} of {before.sum()} values before it")
        return Shown(field(seen, before, (row, column)), seen.float().unsqueeze(0))
