"""Halving and doubling of the sides of images, odd sides included."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def resolutions(size: tuple[int, ...]) -> list[tuple[int, ...]]:
    """List the resolutions from the smallest to the image's ``(H, W)``.

    Sides are halved and rounded up: once if the smaller side is at least 2, and again as long as it is at least 8.
    """
    sizes = [size]
    while min(sizes[0]) >= (8 if len(sizes) > 1 else 2):
        sizes.insert(0, tuple(-(-side // 2) for side in sizes[0]))
    return sizes


def widths(channels: int, channel_base: int | None, sizes: Sequence[tuple[int, ...]]) -> list[int]:
    """Give the number of channels at each resolution.

    Args:
        channels: upper limit on the number of channels.
        channel_base: upper limit on the number of channels times the smaller side, where the side is rounded up to a
            power of two; ``None`` for 32 times ``channels``.
        sizes: resolutions ``(H, W)``.
    """
    base = 32 * channels if channel_base is None else channel_base
    return [max(1, min(channels, base // (1 << (min(size) - 1).bit_length()))) for size in sizes]


def doubled(h: Tensor, size: tuple[int, ...]) -> Tensor:
    """Double the sides bilinearly and cut to ``size``; this is the filter [1, 3, 3, 1] of StyleGAN2 and R3GAN."""
    h = F.interpolate(h, scale_factor=2, mode="bilinear", align_corners=False)
    return h[:, :, : size[0], : size[1]]


class Smooth(nn.Module):
    """Filter [1, 3, 3, 1] in both directions, on ``(B, C, H, W)``; the defaults halve the sides, rounded down.

    Args:
        stride: stride of the filter.
        padding: number of zeros at each border.
    """

    kernel: Tensor

    def __init__(self, stride: int = 2, padding: int = 1) -> None:
        super().__init__()
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", torch.outer(line, line)[None, None], persistent=False)
        self.stride, self.padding = stride, padding

    def forward(self, h: Tensor) -> Tensor:
        C = h.shape[1]
        kernel = self.kernel.to(h.dtype).expand(C, 1, 4, 4)
        return F.conv2d(h, kernel, stride=self.stride, padding=self.padding, groups=C)
