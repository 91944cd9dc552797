"""Add noise to test images and take it away again, with diffusion models: variations of an image."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import evaluating
from genlab.models.abilities import Varies
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.complete import in_turns
from genlab.views.view import Shown, View, chosen_images, numbered


@dataclass(frozen=True, kw_only=True)
class Vary(View):
    """A view that draws variations of test images, from slightly to completely different: SDEdit (arXiv:2108.01073).

    Args:
        n: number of images: the first one of every class, then the second one of every class, and so on.
        images: indices of test images to use instead; None for those of ``n``.
        strengths: shares of the way from noise to data that are gone again, each in (0, 1].
    """

    mode: ClassVar[str] = "vary"

    n: int = 10
    images: list[int] | None = None
    strengths: tuple[float, ...] = (0.2, 0.4, 0.6, 0.8, 1.0)

    @property
    def name(self) -> str:
        return super().name + numbered(self.images, [f"{strength:g}" for strength in self.strengths])

    def check(self, run: Run) -> None:
        super().check(run)
        if run.is_coded:
            raise InputError(f"mode={self.mode} is for images; this run's model draws codes or latents")
        if not isinstance(run.model, Varies):
            raise InputError(f"mode={self.mode} is for models that go from noise to data, such as diffusion/ddpm")
        if not self.strengths or not all(0 < strength <= 1 for strength in self.strengths):
            raise InputError(f"strengths={list(self.strengths)}: give numbers above 0 and at most 1")

    def show(self, run: Run) -> Shown:
        x, y = chosen_images(run, self.images, in_turns(run.data.splits["test"].labels)[: self.n])
        columns = [x]
        with with_progress("samples", len(x) * len(self.strengths)) as advance:
            for strength in self.strengths:
                columns.append(varied(run, x, y, strength, self.seed))
                advance(len(x))
        images = torch.stack(columns, 1).flatten(0, 1)
        labels = Labels(["image", *(f"{s:g}" for s in self.strengths)], title="share of the image that is noise")
        return Shown(grid(images, columns=len(columns), labels=labels), images, len(columns))


def varied(run: Run, x: Tensor, y: Tensor, strength: float, seed: int) -> Tensor:
    """Draw a variation of each image, ``(N, C, H, W)`` on the CPU; all strengths share the noise of an image."""
    model = run.model
    assert isinstance(model, Varies)
    streams = generators(seed, range(len(x)))
    with evaluating(model):
        return model.vary(x.to(model.device), strength, y, generator=streams, sampling=model.sampling).cpu()
