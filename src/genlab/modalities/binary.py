"""Binary images: each pixel is black or white."""

import torch
from torch import Tensor

from genlab.modalities.image import Image


class Binary(Image):
    """Modality of images ``(C, H, W)`` in {0., 1.}; a pixel is drawn to be 1 with its grey level as probability."""

    name = "binary"

    def from_grey(self, x: Tensor) -> Tensor:
        return (torch.rand_like(x) < x).float()
