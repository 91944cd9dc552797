"""Images side by side on one sheet."""

import math
from typing import TYPE_CHECKING

from PIL import Image

if TYPE_CHECKING:  # comparing runs needs pictures, not PyTorch
    from torch import Tensor


def grid(images: "Tensor", columns: int | None = None, min_side: int = 32) -> Image.Image:
    """Images ``(N, C, H, W)`` in [0, 1] on one sheet; small ones are enlarged by a whole factor.

    Channels beyond grey and colour are shown by their mean.
    """
    import torch
    from torchvision.utils import make_grid

    images = images.detach().float().cpu().clamp(0, 1)
    if images.shape[1] not in (1, 3):
        images = images.mean(1, keepdim=True)
    factor = max(1, math.ceil(min_side / min(images.shape[2:])))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    columns = columns or math.ceil(math.sqrt(len(images)))
    sheet = make_grid(images, nrow=columns, padding=2, pad_value=0.5)
    return Image.fromarray((sheet * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
