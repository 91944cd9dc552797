"""Images: values in [0, 1], shown in a grid and stored as uint8."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.modalities.modality import Modality, Rendering
from genlab.pictures.grid import grid


class Image(Modality):
    """Modality of images ``(C, H, W)`` as float in [0, 1]."""

    name = "image"
    noun = "images"
    is_tiled = True
    task = "unconditional-image-generation"

    def check(self, shape: Sequence[int]) -> None:
        if len(shape) != 3 or min(shape) < 1:
            raise InputError(f"shape={list(shape)}: images are (C, H, W) of positive sizes")

    def render(self, samples: Tensor, real: Tensor | None = None, **_: Any) -> Rendering:
        return Rendering(grid(samples))

    def to_storage(self, samples: Tensor) -> np.ndarray:
        return to_uint8(samples.detach().float().cpu()).numpy()

    def features_view(self, samples: Tensor) -> Tensor:
        return to_uint8(samples)


def to_uint8(images: Tensor) -> Tensor:
    """Round images in [0, 1] to 256 levels, uint8; uint8 images are returned unchanged."""
    if images.dtype == torch.uint8:
        return images
    return (images.float().clamp(0, 1) * 255).round().to(torch.uint8)
