"""Test images with a part taken away and drawn again, by models that go over an image value by value."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.measure import Advance, evaluating
from genlab.models.base import Completes, GenerativeModel
from genlab.pictures.grid import grid
from genlab.runs.loading import Run
from genlab.views.view import Shown, View, chosen_images, numbered


@dataclass(frozen=True, kw_only=True)
class Complete(View):
    """Draw a part of test images again.

    Args:
        n: number of images, the first of every class in turns.
        images: numbers of test images to take instead.
        redraw: the part: a half by its side, or [top, left, bottom, right] in pixels, the end excluded.
        draws: number of draws of each image.
    """

    mode: ClassVar[str] = "complete"

    n: int = 10
    images: list[int] | None = None
    redraw: Literal["top", "bottom", "left", "right"] | list[int] = "bottom"
    draws: int = 6

    @property
    def name(self) -> str:
        part = [self.redraw] if isinstance(self.redraw, str) else self.redraw
        return super().name + numbered(self.images, part, [f"draws{self.draws}"])  # type: ignore[arg-type]

    def check(self, run: Run) -> None:
        super().check(run)
        if run.is_coded:
            raise InputError(f"mode={self.mode} is of images; this run's model draws codes: mode=grid decodes them")

    def show(self, run: Run) -> Shown:
        model = run.model
        x, y = chosen_images(run, self.images, in_turns(run.data.splits["test"].labels)[: self.n])
        region = region_of(self.redraw, model.shape)
        with with_progress("samples", len(x) * self.draws) as advance:
            images = completed(model, x, y, region, self.draws, seed=self.seed, advance=advance)
        if isinstance(model, Completes) and (early := drawn_too_early(model, region)):
            total = int(region.sum()) * len(x[0])
            print(f"{early} of {total} values are drawn before known ones, and do not heed these")
        return Shown(grid(images, columns=2 + self.draws), images, 2 + self.draws)


SIDES = ("top", "bottom", "left", "right")


def region_of(redraw: str | Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """The pixels to be drawn, bool ``(H, W)``: a half by its name, or [top, left, bottom, right], its end excluded.

    Raises:
        InputError: there is no such region in images of ``shape``, or no pixel in it.
    """
    _, H, W = shape
    if isinstance(redraw, str):
        top, left, bottom, right = {
            "top": (0, 0, H // 2, W),
            "bottom": (H // 2, 0, H, W),
            "left": (0, 0, H, W // 2),
            "right": (0, W // 2, H, W),
        }[redraw]
    elif len(redraw) != 4:
        raise InputError(f"redraw={list(redraw)}: give [top,left,bottom,right], or one of {', '.join(SIDES)}")
    else:
        top, left, bottom, right = redraw
    if not (0 <= top < bottom <= H and 0 <= left < right <= W):
        raise InputError(
            f"redraw=[{top},{left},{bottom},{right}] is no region of {H} rows and {W} columns: "
            "give [top,left,bottom,right] with the end excluded"
        )
    region = torch.zeros(H, W, dtype=torch.bool)
    region[top:bottom, left:right] = True
    return region


def drawn_too_early(model: Completes, region: Tensor) -> int:
    """How many of the region's values are drawn before a known one, and so without heeding it."""
    counts = []
    for order in model.orders.cpu():
        unknown = region.expand_as(order)
        last_known = order[~unknown].max() if (~unknown).any() else -1
        counts.append(int((order[unknown] < last_known).sum()))
    return max(counts)


def completed(
    model: GenerativeModel,
    x: Tensor,
    y: Tensor | None,
    region: Tensor,
    draws: int,
    *,
    seed: int,
    batch_size: int = 250,
    advance: Advance,
) -> Tensor:
    """In each row an image, the same with the region in grey, and so many draws of the region, ``(N * (2 + draws), C,
    H, W)``.

    Raises:
        InputError: the model draws all values of an image at once.
    """
    if not isinstance(model, Completes):
        raise InputError("mode=complete is of autoregressive models; this run's draws all of an image at once")
    known = torch.where(region, torch.nan, x).repeat_interleave(draws, 0)
    classes = None if y is None else y.repeat_interleave(draws)
    drawn = []
    with evaluating(model):
        for first in range(0, len(known), batch_size):
            part = slice(first, first + batch_size)
            size = len(known[part])
            streams = generators(seed, range(first, first + size))
            of_part = None if classes is None else classes[part]
            samples = model.sample(size, of_part, generator=streams, known=known[part].to(model.device))
            drawn.append(samples.cpu())
            advance(size)
    of_image = torch.cat(drawn).unflatten(0, (len(x), draws))
    greyed = torch.where(region, 0.5, x)
    return torch.cat([x.unsqueeze(1), greyed.unsqueeze(1), of_image], 1).flatten(0, 1)


def in_turns(labels: Tensor) -> Tensor:
    """Indices of all examples, the first of each class, then the second of each, int64 ``(N,)``."""
    by_class = labels.argsort(stable=True)
    of_class = labels[by_class].contiguous()
    within = torch.arange(len(labels)) - torch.searchsorted(of_class, of_class)
    return by_class[within.argsort(stable=True)]
