"""Binary images: each pixel is black or white."""

import torch
from torch import Tensor

from genlab.modalities.image import Image


class Binary(Image):
    """Images ``(C, H, W)`` of {0., 1.}; grey levels become them by a draw of each pixel."""

    name = "binary"

    def from_grey(self, x: Tensor) -> Tensor:
        return (torch.rand_like(x) < x).float()
