"""All of a plane of latents as images."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.pictures.grid import grid
from genlab.runs.loading import Run
from genlab.views.latents import Latents
from genlab.views.view import Shown, View


@dataclass(frozen=True, kw_only=True)
class Manifold(View):
    """Decode a lattice of two latents.

    Args:
        n: accepted as of every view; the lattice has ``steps``.
        steps: number of images on each side.
    """

    mode: ClassVar[str] = "manifold"

    n: int = 8
    steps: int = 20

    def show(self, run: Run) -> Shown:
        latents = Latents(run.model, self.seed)
        if getattr(run.model, "latent_dim", None) != 2:
            raise InputError("mode=manifold is of a model with 2 latents: train one with model.latent_dim=2")
        if run.model.num_classes is not None:
            raise InputError("mode=manifold: a class-conditional model has a manifold for each class")
        images = manifold(latents, None, self.steps)
        return Shown(grid(images, columns=self.steps), images, self.steps)


def manifold(latents: Latents, y: Tensor | None, steps: int) -> Tensor:
    """The plane of two latents at the quantiles of N(0, 1), ``(steps², C, H, W)`` from the top left, as in figure 4 of
    Auto-Encoding Variational Bayes (arXiv:1312.6114)."""
    at = torch.special.ndtri((torch.arange(steps, device=latents.model.device) + 0.5) / steps)
    z = torch.stack([at.repeat(steps), at.flip(0).repeat_interleave(steps)], 1)
    return latents.decode(z, None if y is None else y.repeat(len(z)))
