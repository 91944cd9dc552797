"""Show samples beside the training images nearest to them."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from PIL import Image
from torch import Tensor

from genlab.composition.building import build
from genlab.data.images import ImageDataModule
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import draw
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run
from genlab.views.view import Shown, View, chosen_classes


@dataclass(frozen=True, kw_only=True)
class Nearest(View):
    """A view that draws ``n`` samples, and finds the five training images nearest to each by the run's features.

    Args:
        n: number of samples.
        classes: class of the samples of a class-conditional model, or a list of classes to take in turns; None draws
            classes at random.
        cache_dir: folder that keeps the features of training images; None keeps them nowhere.
    """

    mode: ClassVar[str] = "nearest"

    n: int = 8
    classes: int | list[int] | None = None
    cache_dir: str | None = None

    def show(self, run: Run) -> Shown:
        y = chosen_classes(run, self.classes, self.n)
        with with_progress("samples", self.n) as advance:
            samples = draw(run.model, self.n, seed=self.seed, y=y, decode=run.decode, advance=advance)
        metrics = build({**run.config["metrics"], "cache_dir": self.cache_dir}, "metrics")
        indices = metrics.nearest(samples, run.data, run.device)
        return Shown(beside_neighbours(samples, run.data, indices, len(samples)), samples)


def beside_neighbours(samples: Tensor, data: DataModule, indices: Tensor, rows: int = 10) -> Image.Image:
    """Draw a row for each of the first samples: the sample, then the training images nearest to it.

    Args:
        samples: samples, float ``(N, C, H, W)`` in [0, 1].
        data: data of the run; for codes, the images that they stand for are drawn.
        indices: indices of the training images nearest to each sample, ``(N, k)``.
        rows: number of samples to draw.

    Raises:
        InputError: if the data is not of images.
    """
    data = data.pictured
    if not isinstance(data, ImageDataModule):
        raise InputError("only images can be shown beside training images")
    shown = samples[: min(rows, len(indices))].float().cpu()  # there may be fewer measured samples than shown ones
    nearest = data.splits["train"].take(indices[: len(shown)].flatten()).float().cpu() / (data.source_levels - 1)
    together = torch.cat([shown.unsqueeze(1), nearest.view(len(shown), -1, *shown.shape[1:])], 1)
    labels = Labels(["sample", *(f"train {i + 1}" for i in range(together.shape[1] - 1))])
    return grid(together.flatten(0, 1), columns=together.shape[1], labels=labels)
