"""Rows of images that lead through the latents, from one image to another."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.metrics.measure import evaluating
from genlab.models.base import DecodesNoise, GenerativeModel, LatentModel
from genlab.pictures.grid import grid
from genlab.runs.loading import Run
from genlab.views.latents import Latents, path_images
from genlab.views.view import Shown, View, chosen_classes, chosen_images, numbered


@dataclass(frozen=True, kw_only=True)
class Interpolate(View):
    """Walk from one sample to another, or from one test image to another, along great circles of the latents.

    Args:
        n: number of rows between samples.
        steps: number of images in a row.
        images: numbers of test images, two for each row; None walks between samples.
        classes: class of a class-conditional model's rows, or several in turns; None draws them.
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
        else:
            latents = Latents(run.model, self.seed)
            x, y = chosen_images(run, self.images, torch.arange(0))
            if len(x) % 2:
                raise InputError(f"images={self.images}: give two images for each row")
            images = from_one_to_another(latents, x, y, self.steps)
        return Shown(grid(images, columns=self.steps), images, self.steps, moves=True)


def between(model: GenerativeModel, rows: int, columns: int, *, seed: int, y: Tensor | None = None) -> Tensor:
    """Walk on the great circle from one random latent to another in each row, ``(rows * columns, C, H, W)``.

    A model that encodes starts from the latents of two of its samples. A row is of one class.

    Args:
        model: the model to look at.
        rows: number of walks.
        columns: number of images in a walk.
        seed: random seed of the latents.
        y: classes of the rows, int64 ``(rows,)``; None draws those of a conditional model.

    Raises:
        InputError: if the model has no latents.
    """
    if not isinstance(model, LatentModel | DecodesNoise):
        raise InputError("mode=interpolate: this run's model has no latents to go between")
    with evaluating(model):
        y = model.classes(rows, y, generators(seed, range(rows)))
        if isinstance(model, LatentModel):
            both = None if y is None else y.repeat(2)
            x = model.sample(2 * rows, both, generator=generators(seed, range(2 * rows)))
            with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
                torch.manual_seed(seed)  # of an encoder's noise
                z = model.encode(x, both)
        else:
            z = model.draw_latents(2 * rows, generators(seed, range(2 * rows)))
        return path_images(model.decode, z[:rows], z[rows:], y, columns).float().cpu()


def from_one_to_another(latents: Latents, x: Tensor, y: Tensor | None, steps: int) -> Tensor:
    """Walk from the first image to the second, from the third to the fourth, ``(N / 2 * steps, C, H, W)``.

    A row is of its first image's class.
    """
    z = latents.encode(x, y)
    return path_images(latents.decode, z[0::2], z[1::2], None if y is None else y[0::2], steps)
