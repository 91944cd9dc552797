"""Convolutions that keep the sides of images."""

import torch
from torch import nn


class SameConv2d(nn.Conv2d):
    """Convolution around each pixel, zero beyond the edges; ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: side of the kernel, odd.
        gain: variance of the outputs at initialization, for inputs of variance 1.

    Attributes:
        first_deviation: standard deviation of the outputs if they are initialized from data.
    """

    first_deviation: float = 1.0

    def __init__(self, in_channels: int, out_channels: int, kernel_size: int, gain: float = 1.0) -> None:
        super().__init__(in_channels, out_channels, kernel_size, padding=kernel_size // 2)
        assert self.bias is not None
        with torch.no_grad():
            self.weight.normal_(std=(gain / (in_channels * kernel_size**2)) ** 0.5)
            self.bias.zero_()
