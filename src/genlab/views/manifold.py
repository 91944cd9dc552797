"""Show the whole plane of two latents as images."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.latents import Latents
from genlab.views.view import Shown, View


@dataclass(frozen=True, kw_only=True)
class Manifold(View):
    """A view that decodes a lattice of two latents.

    Args:
        n: unused, except in the name of the files; ``steps`` gives the size of the lattice.
        steps: number of images on each side of the lattice.
    """

    mode: ClassVar[str] = "manifold"

    n: int = 8
    steps: int = 20

    @property
    def num_drawn(self) -> int:
        return self.steps**2

    def show(self, run: Run) -> Shown:
        latents = Latents(run.model, self.seed)
        if getattr(run.model, "latent_dim", None) != 2:
            raise InputError("mode=manifold is for models with 2 latents: train one with model.latent_dim=2")
        if run.model.num_classes is not None:
            raise InputError("mode=manifold: a class-conditional model has a manifold for each class")
        images = manifold(latents, None, self.steps)
        return Shown(grid(images, columns=self.steps, labels=of_plane(self.steps)), images, self.steps)


def of_plane(steps: int) -> Labels:
    """Label a lattice of two latents with their values.

    Args:
        steps: number of images on each side of the lattice.
    """
    values = [f"{value:+.1f}" for value in _quantiles(steps).tolist()]
    return Labels(values, values[::-1], "the first latent from left to right, the second from bottom to top")


def _quantiles(steps: int) -> Tensor:
    return torch.special.ndtri((torch.arange(steps) + 0.5) / steps)


def manifold(latents: Latents, y: Tensor | None, steps: int) -> Tensor:
    """Decode the plane of two latents on a lattice of quantiles of N(0, 1).

    As in figure 4 of Auto-Encoding Variational Bayes (arXiv:1312.6114).

    Args:
        latents: latents of a model with two of them.
        y: class of all images, int64 ``(1,)``; None for an unconditional model.
        steps: number of images on each side of the lattice.

    Returns:
        Images ``(steps², C, H, W)``, row by row from the top left.
    """
    at = _quantiles(steps).to(latents.model.device)
    z = torch.stack([at.repeat(steps), at.flip(0).repeat_interleave(steps)], 1)
    return latents.decode(z, None if y is None else y.repeat(len(z)))
