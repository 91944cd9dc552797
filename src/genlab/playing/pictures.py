"""Pictures for the page: enlarged so that the pixels of small images can be seen, and regions painted on them."""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from genlab.data.picture_files import read_image
from genlab.errors import InputError
from genlab.modalities.image import to_uint8
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.runs.loading import Run

WIDTH = 600  # pixels, about that of the place where a picture is shown
LARGEST = 320  # pixels, of the side of one enlarged image
PAINTED = 0.25  # share of a pixel from which on it counts as painted over


def enlarged(images: Tensor, columns: int | None = None, labels: Labels | None = None) -> Image.Image:
    """Arrange images on a sheet of about the width of the page, each pixel a square.

    Args:
        images: images in [0, 1], ``(N, C, H, W)``.
        columns: number of images in a row; None for a sheet that is about square.
        labels: labels of the rows and columns.
    """
    across = columns or math.ceil(math.sqrt(len(images)))
    side = min(LARGEST, max(32, WIDTH // across - 2))
    factor = max(1, side // max(images.shape[-2:]))
    return grid(images, columns, min_side=factor * min(images.shape[-2:]), max_side=max(LARGEST, side), labels=labels)


def uploaded(path: str, run: Run) -> Tensor:
    """Read a picture of the user's as an example of the model, ``(1, C, H, W)``, cropped and resized as it has to be.

    Args:
        path: file of the picture.
        run: run that is played with, whose data says how many grey levels there are.

    Raises:
        InputError: if the file is no picture, or the model's images are neither grey nor of three colours.
    """
    C, H, W = run.model.shape
    if C not in (1, 3):
        raise InputError(f"your own picture: the model sees images of {C} channels, and pictures have 1 or 3")
    # By its name alone: its folder is one of the page's own, which says nothing to the user.
    x = read_image(Path(Path(path).name), C, (H, W), content=Path(path).read_bytes()).unsqueeze(0).float() / 255
    return x if run.levels is None else (x * (run.levels - 1)).round() / (run.levels - 1)


def canvas(x: Tensor, side: int = 384) -> Image.Image:
    """Enlarge one image ``(C, H, W)`` to paint on, each pixel a square of the same size."""
    _, H, W = x.shape
    factor = max(1, side // max(H, W))
    shown = x if len(x) in (1, 3) else x.mean(0, keepdim=True)
    pixels = to_uint8(shown.expand(3, H, W)).permute(1, 2, 0).cpu().numpy()
    return Image.fromarray(pixels).resize((factor * W, factor * H), Image.Resampling.NEAREST)


def painted_region(layers: list[np.ndarray], shape: tuple[int, ...]) -> Tensor | None:
    """Find the pixels of an image that were painted over, bool ``(H, W)``; None if there are none.

    Args:
        layers: what was painted, RGBA of any size, ``(h, w, 4)``.
        shape: shape ``(C, H, W)`` of the image.
    """
    _, H, W = shape
    region = torch.zeros(H, W, dtype=torch.bool)
    for layer in layers:
        alpha = Image.fromarray(layer[..., 3]).resize((W, H), Image.Resampling.BOX)
        region |= torch.from_numpy(np.array(alpha)) >= 255 * PAINTED
    return region if region.any() else None


def region_picture(region: Tensor) -> Image.Image:
    """Make the picture of a region, ``(H, W)``: white where an image is to be drawn again, else black."""
    return Image.fromarray(np.where(region.numpy(), 255, 0).astype(np.uint8))
