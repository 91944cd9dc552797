"""Remove a part of test images and draw it again, with models that can complete an image."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
from torch import Tensor

from genlab.data.picture_files import read_image
from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import Advance, evaluating
from genlab.models.base import Completes, GenerativeModel
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.view import Shown, View, chosen_images, numbered


@dataclass(frozen=True, kw_only=True)
class Complete(View):
    """A view that draws a part of test images again.

    Args:
        n: number of images: the first one of every class, then the second one of every class, and so on.
        images: indices of test images to use instead; None for those of ``n``.
        redraw: part to draw: a half by its side, [top, left, bottom, right] in pixels, the end excluded, or the file of
            a picture of the same size that is white at the part and black elsewhere.
        draws: number of draws for each image.
    """

    mode: ClassVar[str] = "complete"

    n: int = 10
    images: list[int] | None = None
    redraw: str | list[int] = "bottom"
    draws: int = 6

    @property
    def name(self) -> str:
        part = [Path(self.redraw).stem] if isinstance(self.redraw, str) else self.redraw
        return super().name + numbered(self.images, part, [f"draws{self.draws}"])

    def check(self, run: Run) -> None:
        super().check(run)
        if run.is_coded:
            raise InputError(f"mode={self.mode} is for images; this run's model draws codes: mode=grid decodes them")

    def show(self, run: Run) -> Shown:
        model = run.model
        x, y = chosen_images(run, self.images, in_turns(run.data.splits["test"].labels)[: self.n])
        region = region_of(self.redraw, model.shape)
        with with_progress("samples", len(x) * self.draws) as advance:
            images = completed(model, x, y, region, self.draws, seed=self.seed, advance=advance)
        if isinstance(model, Completes) and (early := drawn_too_early(model, region)):
            total = int(region.sum()) * len(x[0])
            print(f"{early} of {total} values are drawn before known ones, and do not depend on them")
        labels = Labels(["image", "known", *(f"draw {i + 1}" for i in range(self.draws))])
        return Shown(grid(images, columns=2 + self.draws, labels=labels), images, 2 + self.draws)


SIDES = ("top", "bottom", "left", "right")


def region_of(redraw: str | Sequence[int], shape: tuple[int, ...]) -> Tensor:
    """Make a mask of the pixels to draw, bool ``(H, W)``.

    Args:
        redraw: name of a half (a side), [top, left, bottom, right] in pixels, the end excluded, or the file of a
            picture that is white at the region.
        shape: shape ``(C, H, W)`` of the images.

    Raises:
        InputError: if the region is empty, or is not inside images of this shape.
    """
    _, H, W = shape
    if isinstance(redraw, str) and redraw not in SIDES:
        return _painted(Path(redraw), H, W)
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


def _painted(path: Path, H: int, W: int) -> Tensor:
    """Read a region from a picture that is white where an image is to be drawn again, bool ``(H, W)``."""
    if not path.is_file():
        raise InputError(
            f"redraw={path}: there is no such file; give one of {', '.join(map(repr, SIDES))}, "
            "[top,left,bottom,right], or a picture that is white at the region"
        )
    region = read_image(path, channels=1)[0] >= 128
    if region.shape != (H, W):
        raise InputError(
            f"redraw={path} has {len(region)} rows and {region.shape[1]} columns, the images have {H} and {W}: "
            "paint a picture of their size"
        )
    if not region.any():
        raise InputError(f"redraw={path} is black everywhere: paint white what is to be drawn again")
    return region


def drawn_too_early(model: Completes, region: Tensor) -> int:
    """Count the values of a region that are drawn before a known value, and therefore do not depend on it.

    Args:
        model: model that can complete images.
        region: mask of the pixels to draw, bool ``(H, W)``.

    Returns:
        The count for the model's order in which there are most of them.
    """
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
    """Complete each image several times.

    Args:
        model: model that can complete images.
        x: images ``(N, C, H, W)`` in [0, 1].
        y: classes of the images, int64 ``(N,)``; None for an unconditional model.
        region: mask of the pixels to draw, bool ``(H, W)``.
        draws: number of draws for each image.
        seed: random seed of the draws.
        batch_size: number of images that are drawn at once.
        advance: callback for a progress bar, called with the number of images drawn.

    Returns:
        Images ``(N * (2 + draws), C, H, W)``. Each row has an image, the image with the region in grey, and its draws.

    Raises:
        InputError: if the model draws all values of an image at once.
    """
    if not isinstance(model, Completes):
        raise InputError(
            "mode=complete is for autoregressive models and diffusion models; this run's model draws an image at once"
        )
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
    """Order examples so that the first one of each class comes first, then the second one of each class, and so on.

    Args:
        labels: classes of the examples, int64 ``(N,)``.

    Returns:
        Indices of the examples, int64 ``(N,)``.
    """
    by_class = labels.argsort(stable=True)
    of_class = labels[by_class].contiguous()
    within = torch.arange(len(labels)) - torch.searchsorted(of_class, of_class)
    return by_class[within.argsort(stable=True)]
