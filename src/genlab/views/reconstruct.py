"""Show test images beside their reconstructions."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.latents import Latents, image_pairs
from genlab.views.view import Shown, View, chosen_images, numbered

PAIRS = Labels(["image", "decoded"])


@dataclass(frozen=True, kw_only=True)
class Reconstruct(View):
    """A view that encodes test images and decodes their latents.

    Args:
        n: number of images, taken from the beginning of the test set.
        images: indices of test images to use instead; None for the first ``n``.
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
        return Shown(grid(images, columns=2 * min(8, len(x)), labels=PAIRS), images, 2)


def reconstructed(latents: Latents, x: Tensor, y: Tensor | None) -> Tensor:
    """Put after each image its reconstruction, ``(2N, C, H, W)``.

    Args:
        latents: latents of the model.
        x: images ``(N, C, H, W)`` in [0, 1].
        y: classes of the images, int64 ``(N,)``; None for an unconditional model.
    """
    return image_pairs(latents.decode, x.cpu(), latents.encode(x, y), y)
