"""Images side by side on one sheet."""

import math
from typing import TYPE_CHECKING

from PIL import Image

from genlab.pictures.labels import Labels, labelled

if TYPE_CHECKING:  # importing PyTorch is slow, and comparing runs draws pictures without it
    from torch import Tensor


LABELLED_SIDE = 48  # pixels; a label of some letters fits above such an image


def grid(
    images: "Tensor",
    columns: int | None = None,
    min_side: int = 32,
    max_side: int = 256,
    labels: Labels | None = None,
) -> Image.Image:
    """Arrange images on one sheet that is about square; small ones are enlarged by an integer factor.

    Images with neither 1 nor 3 channels are shown as grey, by the mean of their channels.

    Args:
        images: images in [0, 1], ``(N, C, H, W)``.
        columns: number of images in a row; ``None`` for a sheet that is about square.
        min_side: side in pixels to which smaller images are enlarged, at least.
        max_side: side in pixels that an enlarged image does not exceed; it limits flat images, such as rows of bits.
        labels: labels of the rows and columns; small images are then enlarged a little more.
    """
    import torch
    from torchvision.utils import make_grid

    images = images.detach().float().cpu().clamp(0, 1)
    if images.shape[1] not in (1, 3):
        images = images.mean(1, keepdim=True)
    H, W = images.shape[2:]
    min_side = max(min_side, LABELLED_SIDE) if labels and labels.columns else min_side
    factor = max(1, min(math.ceil(min_side / min(H, W)), max_side // max(H, W)))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    columns = columns or math.ceil(math.sqrt(len(images) * H / W))
    sheet = make_grid(images, nrow=columns, padding=2, pad_value=0.5)
    picture = Image.fromarray((sheet * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    return labelled(picture, (factor * W, factor * H), labels) if labels else picture
