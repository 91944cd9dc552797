"""Walk through a model's latents from one image to another."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.metrics.drawing import evaluating
from genlab.models.abilities import DecodesNoise, LatentModel
from genlab.models.base import GenerativeModel
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.latents import Latents, path_images
from genlab.views.view import Shown, View, chosen_classes, chosen_images, numbered

WAY = "share of the way from one latent to the other"


@dataclass(frozen=True, kw_only=True)
class Interpolate(View):
    """A view that walks from one sample, or one test image, to another, along great circles of the latents.

    Args:
        n: number of rows, if the walks are between samples.
        steps: number of images in a row.
        images: indices of test images, two for each row; None walks between samples.
        classes: class of the rows of a class-conditional model, or a list of classes to take in turns; None draws
            classes at random.
    """

    mode: ClassVar[str] = "interpolate"

    n: int = 8
    steps: int = 8
    images: list[int] | None = None
    classes: int | list[int] | None = None

    @property
    def name(self) -> str:
        return super().name + numbered(self.images)

    def show(self, run: Run) -> Shown:
        if self.images is None:
            y = chosen_classes(run, self.classes, self.n)
            images = between(run.model, self.n, self.steps, seed=self.seed, y=y)
            rows = [] if y is None else [f"class {k}" for k in y.tolist()]
        else:
            latents = Latents(run.model, self.seed)
            x, y = chosen_images(run, self.images, torch.arange(0))
            if len(x) % 2:
                raise InputError(f"images={self.images}: give two images for each row")
            images = from_one_to_another(latents, x, y, self.steps)
            rows = [f"image {a} to {b}" for a, b in zip(self.images[::2], self.images[1::2], strict=True)]
        labels = Labels(shares(self.steps), rows, WAY)
        return Shown(
            grid(images, columns=self.steps, labels=labels), images, self.steps, moves=True, captions=labels.columns
        )


def shares(steps: int) -> list[str]:
    """Label the columns of a walk by the share of it that is done.

    Args:
        steps: number of columns.
    """
    return [f"{i / max(1, steps - 1):.2g}" for i in range(steps)]


def between(model: GenerativeModel, rows: int, columns: int, *, seed: int, y: Tensor | None = None) -> Tensor:
    """Walk along the great circle from one random latent to another in each row.

    If the model has an encoder, the walk is between the latents of two of its samples. A row has one class.

    Args:
        model: model with latents.
        rows: number of walks.
        columns: number of images in a walk.
        seed: random seed of the latents.
        y: classes of the rows, int64 ``(rows,)``; None draws the classes of a conditional model at random.

    Returns:
        Images ``(rows * columns, C, H, W)``, row by row.

    Raises:
        InputError: if the model has no latents.
    """
    if not isinstance(model, LatentModel | DecodesNoise):
        raise InputError("mode=interpolate: this run's model has no latents to interpolate between")
    with evaluating(model):
        y = model.classes(rows, y, generators(seed, range(rows)))
        if isinstance(model, LatentModel):
            both = None if y is None else y.repeat(2)
            x = model.sample(2 * rows, both, generator=generators(seed, range(2 * rows)))
            with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
                torch.manual_seed(seed)  # for the noise of a stochastic encoder
                z = model.encode(x, both)
        else:
            z = model.draw_latents(2 * rows, generators(seed, range(2 * rows)))
        return path_images(model.decode, z[:rows], z[rows:], y, columns).float().cpu()


def from_one_to_another(latents: Latents, x: Tensor, y: Tensor | None, steps: int) -> Tensor:
    """Walk from the first image to the second, from the third to the fourth, and so on.

    Args:
        latents: latents of the model.
        x: images ``(N, C, H, W)``.
        y: classes of the images, int64 ``(N,)``, of which a row has that of its first image; None for an
            unconditional model.
        steps: number of images in a walk.

    Returns:
        Images ``(N / 2 * steps, C, H, W)``, row by row.
    """
    z = latents.encode(x, y)
    return path_images(latents.decode, z[0::2], z[1::2], None if y is None else y[0::2], steps)
