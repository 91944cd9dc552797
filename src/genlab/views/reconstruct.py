"""Test images beside what their latents decode to."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.pictures.grid import grid
from genlab.runs.loading import Run
from genlab.views.latents import Latents, image_pairs
from genlab.views.view import Shown, View, chosen_images, numbered


@dataclass(frozen=True, kw_only=True)
class Reconstruct(View):
    """Encode test images and decode their latents.

    Args:
        n: number of images, the first of the test set.
        images: numbers of test images to take instead.
    """

    mode: ClassVar[str] = "reconstruct"

    n: int = 32
    images: list[int] | None = None

    @property
    def name(self) -> str:
        return super().name + numbered(self.images)

    def show(self, run: Run) -> Shown:
        latents = Latents(run.model, self.seed)
        x, y = chosen_images(run, self.images, torch.arange(self.n))
        images = reconstructed(latents, x, y)
        return Shown(grid(images, columns=2 * min(8, len(x))), images, 2)


def reconstructed(latents: Latents, x: Tensor, y: Tensor | None) -> Tensor:
    """Put after each image what its latents decode to, ``(2N, C, H, W)``."""
    return image_pairs(latents.decode, x.cpu(), latents.encode(x, y), y)
