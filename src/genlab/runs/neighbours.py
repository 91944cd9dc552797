"""Samples beside the training images that they are nearest to."""

import torch
from PIL import Image
from torch import Tensor

from genlab.data.images import ImageDataModule
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.runs.pictures import grid


def beside_neighbours(samples: Tensor, data: DataModule, indices: Tensor, rows: int = 10) -> Image.Image:
    """Draw a row for each of the first samples: the sample and, after it, its training images.

    Args:
        samples: float ``(N, C, H, W)`` in [0, 1].
        data: data of the run; what people look at of it is drawn.
        indices: training images of every sample, ``(N, k)``.
        rows: number of samples drawn.

    Raises:
        InputError: where the data is not one of images.
    """
    data = data.pictured
    if not isinstance(data, ImageDataModule):
        raise InputError("only samples that are images have training images to stand beside")
    shown = samples[:rows].float().cpu()
    nearest = data.splits["train"].take(indices[: len(shown)].flatten()).float().cpu() / (data.source_levels - 1)
    together = torch.cat([shown.unsqueeze(1), nearest.view(len(shown), -1, *shown.shape[1:])], 1)
    return grid(together.flatten(0, 1), columns=together.shape[1])
