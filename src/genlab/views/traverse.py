"""Move one latent in each row, and leave the others as they are."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.models.abilities import LatentModel
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.latents import Latents
from genlab.views.view import Shown, View, chosen_images, numbered


@dataclass(frozen=True, kw_only=True)
class Traverse(View):
    """A view that moves each of the ``n`` most active latents of a test image, or of a random sample of a GAN.

    Args:
        n: number of latents, one for each row.
        steps: number of images in a row.
        extent: distance that a latent moves to either side, in standard deviations.
        images: list with the index of the test image to begin at; None for the first test image.
    """

    mode: ClassVar[str] = "traverse"

    n: int = 8
    steps: int = 8
    extent: float = 3.0
    images: list[int] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.extent <= 0:
            raise InputError(f"extent={self.extent}: give a number above 0")

    @property
    def name(self) -> str:
        return super().name + numbered(self.images)

    def show(self, run: Run) -> Shown:
        latents = Latents(run.model, self.seed)
        if isinstance(run.model, LatentModel):
            x, y = chosen_images(run, self.images, torch.arange(1))
            images, chosen = traversed(
                latents, x[:1], y[:1], self.n, self.steps, self.extent, *run.data.some("test", 1000)
            )
        else:
            y_of_one = run.model.classes(1, None, None)
            images, chosen = traversed(latents, None, y_of_one, self.n, self.steps, self.extent)
        print(f"latents {', '.join(map(str, chosen))}")
        values = torch.linspace(-self.extent, self.extent, self.steps).tolist()
        title = "standard deviations of a latent from its mean"
        labels = Labels([f"{value:+.2g}" for value in values], [f"latent {i}" for i in chosen], title)
        return Shown(
            grid(images, columns=self.steps, labels=labels),
            images,
            self.steps,
            moves=True,
            captions=[f"{text} standard deviations" for text in labels.columns],
        )


def traversed(
    latents: Latents,
    x: Tensor | None,
    y: Tensor | None,
    rows: int,
    steps: int,
    extent: float,
    background: Tensor | None = None,
    of_background: Tensor | None = None,
) -> tuple[Tensor, list[int]]:
    """Move one latent in each row, from ``-extent`` to ``extent`` standard deviations around its mean.

    The most active latents are moved. With an encoder, the activity of a latent is the standard deviation of its
    encodings over images; without one, as in GANs, it is how much the image changes when the latent changes from -1 to
    1.

    Args:
        latents: latents of the model.
        x: image to begin at, ``(1, C, H, W)``; None for a random latent, if the model has no encoder.
        y: class of the image, int64 ``(1,)``; None for an unconditional model.
        rows: number of latents to move.
        steps: number of images in a row.
        extent: distance that a latent moves to either side, in standard deviations.
        background: images to compute the latents' means and standard deviations from, ``(N, C, H, W)``; None if the
            model has no encoder.
        of_background: classes of ``background``, int64 ``(N,)``.

    Returns:
        Images ``(rows * steps, C, H, W)``, row by row, and the indices of the latents, the most active first.
    """
    start = most_active(latents, x, y, rows, background, of_background)
    at = torch.linspace(-extent, extent, steps, device=start.z.device)
    moved = start.z.repeat(len(start.chosen), steps, 1)
    for row, i in enumerate(start.chosen):
        moved[row, :, i] = start.mean[i] + at * start.std[i]
    images = latents.decode(moved.flatten(0, 1), None if y is None else y.repeat(len(start.chosen) * steps))
    return images, start.chosen


@dataclass(frozen=True)
class Start:
    """The latent of an image, and how far its most active dimensions can be moved.

    Attributes:
        z: latent of the image, ``(1, D)``.
        mean: mean of each dimension, ``(D,)``.
        std: standard deviation of each dimension, ``(D,)``.
        chosen: indices of the most active dimensions, the most active first.
    """

    z: Tensor
    mean: Tensor
    std: Tensor
    chosen: list[int]


def most_active(
    latents: Latents,
    x: Tensor | None,
    y: Tensor | None,
    num: int,
    background: Tensor | None = None,
    of_background: Tensor | None = None,
) -> Start:
    """Find the latent of an image, or a random one, and its most active dimensions, as :func:`traversed` says.

    Args:
        latents: latents of the model.
        x: image to begin at, ``(1, C, H, W)``; None for a random latent, if the model has no encoder.
        y: class of the image, int64 ``(1,)``; None for an unconditional model.
        num: number of dimensions to choose.
        background: images to compute means and standard deviations from, ``(N, C, H, W)``; None if the model has no
            encoder.
        of_background: classes of ``background``, int64 ``(N,)``.
    """
    if background is None:
        z = latents.random(1)
        activity = _effect(latents, z, y)
        mean, std = torch.zeros_like(z[0]), torch.ones_like(z[0])
    else:
        assert x is not None
        z, known = latents.encode(x, y), latents.encode(background, of_background)
        mean, std = known.mean(0), known.std(0)
        activity = std
    return Start(z, mean, std, activity.argsort(descending=True)[:num].tolist())


def _effect(latents: Latents, z: Tensor, y: Tensor | None) -> Tensor:
    """Measure how much the image changes when each latent changes from -1 to 1, ``(D,)``."""
    D = z.shape[1]
    unit = torch.eye(D, device=z.device)
    ends = [latents.decode(z * (1 - unit) + sign * unit, None if y is None else y.repeat(D)) for sign in (-1, 1)]
    return (ends[1] - ends[0]).flatten(1).norm(dim=1)
