"""Show how many bits each pixel of test images costs."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import Advance, evaluating
from genlab.models.abilities import Pointwise
from genlab.models.base import GenerativeModel
from genlab.pictures.maps import beside_heat
from genlab.runs.loading import Run
from genlab.views.view import Shown, View, chosen_images, numbered


@dataclass(frozen=True, kw_only=True)
class Surprise(View):
    """A view of the bits that each pixel of test images costs, given the pixels before it.

    Args:
        n: number of images, taken from the beginning of the test set.
        images: indices of test images to use instead; None for the first ``n``.
    """

    mode: ClassVar[str] = "surprise"

    n: int = 16
    images: list[int] | None = None

    @property
    def name(self) -> str:
        return super().name + numbered(self.images)

    def check(self, run: Run) -> None:
        super().check(run)
        if run.is_coded:
            raise InputError(f"mode={self.mode} is for images; this run's model draws codes: mode=grid decodes them")

    def show(self, run: Run) -> Shown:
        x, y = chosen_images(run, self.images, torch.arange(self.n))
        with with_progress("images", len(x)) as advance:
            bits = surprise(run.model, x, y, advance=advance)
        of = {"lower_bound": ", from one draw of a bound", "estimate": ", by an estimate"}.get(
            getattr(run.model, "likelihood", "exact"), ""
        )
        print(f"{bits.flatten(1).sum(1).mean():.1f} bits an image, at most {bits.max():.2f} a pixel{of}")
        return Shown(beside_heat(x, bits, "bits a pixel"), bits, are_examples=False)


def surprise(model: GenerativeModel, x: Tensor, y: Tensor | None, *, batch_size: int = 100, advance: Advance) -> Tensor:
    """Compute the bits that each pixel costs given the pixels before it, summed over channels, ``(N, H, W)``.

    Args:
        model: model whose likelihood is a product over values.
        x: images ``(N, C, H, W)`` in [0, 1].
        y: classes of the images, int64 ``(N,)``; None for an unconditional model.
        batch_size: number of images computed at once.
        advance: callback for a progress bar, called with the number of images done.

    Raises:
        InputError: if the model's likelihood is not a product over values.
    """
    if not isinstance(model, Pointwise):
        raise InputError(
            "mode=surprise is for autoregressive models; this run's model has no likelihood of a single pixel"
        )
    maps = []
    with evaluating(model):
        for first in range(0, len(x), batch_size):
            part = slice(first, first + batch_size)
            classes = None if y is None else y[part].to(model.device)
            maps.append(-model.log_prob_map(x[part].to(model.device), classes).sum(1).cpu() / math.log(2))
            advance(len(maps[-1]))
    return torch.cat(maps)
