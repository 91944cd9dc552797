"""Move test images from one class to another by the difference of the classes' mean latents."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.latents import Latents
from genlab.views.view import Shown, View, numbered


@dataclass(frozen=True, kw_only=True)
class Attribute(View):
    """A view that moves an image of each class to the next class.

    Args:
        n: number of rows, one for each class.
        steps: number of images in a row.
        attribute: one pair of classes, [from, to]; None for each class and the next.
    """

    mode: ClassVar[str] = "attribute"

    n: int = 8
    steps: int = 8
    attribute: list[int] | None = None

    @property
    def name(self) -> str:
        return super().name + numbered(self.attribute)

    def show(self, run: Run) -> Shown:
        latents = Latents(run.model, self.seed)
        x, y = run.data.some("test", 2000)
        pair, num_classes = self.attribute, run.data.num_classes
        if pair is not None and len(pair) != 2:
            raise InputError(f"attribute={pair}: give two classes, [4,9]")
        if num_classes is None:
            raise InputError("mode=attribute: this run's data has no classes")
        each = [(k, (k + 1) % num_classes) for k in range(min(num_classes, self.n))]
        pairs = each if pair is None else [(pair[0], pair[1])]
        images = with_attribute(latents, x, y, pairs, self.steps, *run.data.some("train", 5000))
        labels = Labels(
            [f"{1.5 * i / max(1, self.steps - 1):.2g}" for i in range(self.steps)],
            [f"{a} to {b}" for a, b in pairs],
            "share of the way between the classes' mean latents",
        )
        return Shown(grid(images, columns=self.steps, labels=labels), images, self.steps)


def with_attribute(
    latents: Latents,
    x: Tensor,
    y: Tensor,
    pairs: Sequence[tuple[int, int]],
    steps: int,
    background: Tensor,
    of_background: Tensor,
) -> Tensor:
    """Move an image of the first class of each pair along the difference of the classes' mean latents.

    A row ends 1.5 times that difference away from the image.

    Args:
        latents: latents of the model.
        x: images to choose from, ``(N, C, H, W)``; the first one of each pair's first class is moved.
        y: classes of ``x``, int64 ``(N,)``.
        pairs: pairs of classes, (from, to).
        steps: number of images in a row.
        background: images to compute the mean latents from, ``(M, C, H, W)``.
        of_background: classes of ``background``, int64 ``(M,)``.

    Returns:
        Images ``(len(pairs) * steps, C, H, W)``, row by row.

    Raises:
        InputError: if there is no image of a class.
    """
    z = latents.encode(background, of_background)
    means = {k: z[of_background.to(z.device) == k].mean(0) for pair in pairs for k in pair}
    missing = [k for pair in pairs for k in pair if not (of_background == k).any() or not (y == pair[0]).any()]
    if missing:
        raise InputError(f"attribute={missing[0]}: no image of this class was found")
    first = torch.stack([(y == a).nonzero()[0, 0] for a, _ in pairs])
    start = latents.encode(x[first], y[first])
    direction = torch.stack([means[b] - means[a] for a, b in pairs])
    t = torch.linspace(0, 1.5, steps, device=z.device).view(1, -1, 1)
    moved = start.unsqueeze(1) + t * direction.unsqueeze(1)
    return latents.decode(moved.flatten(0, 1), y[first].repeat_interleave(steps))
