"""What models that go over an image value by value make of given images: the rest of them, and how it surprises."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.metrics.measure import Advance, evaluating
from genlab.models.base import Completes, GenerativeModel, Pointwise

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
    classes = y.repeat_interleave(draws) if y is not None and model.num_classes is not None else None
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


def surprise(model: GenerativeModel, x: Tensor, y: Tensor | None, *, batch_size: int = 100, advance: Advance) -> Tensor:
    """Bits that each pixel costs given the ones before it, its channels together, ``(N, H, W)``.

    Raises:
        InputError: the model's likelihood is not a product over values.
    """
    if not isinstance(model, Pointwise):
        raise InputError("mode=surprise is of autoregressive models; this run's has no likelihood of a single pixel")
    maps = []
    with evaluating(model):
        for first in range(0, len(x), batch_size):
            part = slice(first, first + batch_size)
            classes = y[part].to(model.device) if y is not None and model.num_classes is not None else None
            maps.append(-model.log_prob_map(x[part].to(model.device), classes).sum(1).cpu() / math.log(2))
            advance(len(maps[-1]))
    return torch.cat(maps)


def in_turns(labels: Tensor) -> Tensor:
    """Indices of all examples, the first of each class, then the second of each, int64 ``(N,)``."""
    by_class = labels.argsort(stable=True)
    of_class = labels[by_class].contiguous()
    within = torch.arange(len(labels)) - torch.searchsorted(of_class, of_class)
    return by_class[within.argsort(stable=True)]
