"""What images are turned into before two sets of them are compared."""

import math
from typing import Protocol

import torch.nn.functional as F
from torch import Tensor


class FeatureExtractor(Protocol):
    """Images, float in [0, 1] ``(B, C, H, W)``, to features ``(B, d)``.

    Attributes:
        protocol: what a number measured on these features must say about them.
    """

    def __call__(self, images: Tensor) -> Tensor: ...

    @property
    def protocol(self) -> dict[str, object]: ...


class Pixels:
    """Grey levels themselves, averaged over blocks until at most ``max_features`` are left.

    Needs no network and no download, and sees brightness, strokes and their correlations; not meaning.
    """

    def __init__(self, max_features: int = 256) -> None:
        self.max_features = max_features

    def __call__(self, images: Tensor) -> Tensor:
        channels, height, width = images.shape[1:]
        block = max(1, math.ceil(math.sqrt(channels * height * width / self.max_features)))
        return F.avg_pool2d(images.float(), block, ceil_mode=True, count_include_pad=False).flatten(1)

    @property
    def protocol(self) -> dict[str, object]:
        return {"features": "pixels", "max_features": self.max_features}
