"""Layers with equalized learning rate: Progressive Growing of GANs (arXiv:1710.10196), section 4.1.

Weights are stored at the scale of N(0, 1) and multiplied by He's constant when they are used, so that every layer
learns at the same speed.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EqualizedLinear(nn.Module):
    """Linear layer with equalized learning rate.

    Args:
        inputs: number of input features.
        outputs: number of output features.
        bias: initial value of the biases.
        lr_multiplier: factor on the optimizer's learning rate for this layer.
    """

    def __init__(self, inputs: int, outputs: int, bias: float = 0.0, lr_multiplier: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / lr_multiplier)
        self.bias = nn.Parameter(torch.full((outputs,), bias / lr_multiplier))
        self.scale, self.lr_multiplier = lr_multiplier / math.sqrt(inputs), lr_multiplier

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.weight * self.scale, self.bias * self.lr_multiplier)


class EqualizedConv2d(nn.Module):
    """Convolution with equalized learning rate: padded to keep the sides if the stride is 1, else without padding."""

    def __init__(self, inputs: int, outputs: int, kernel_size: int, bias: bool = True, stride: int = 1) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outputs, inputs, kernel_size, kernel_size))
        self.bias = nn.Parameter(torch.zeros(outputs)) if bias else None
        self.scale = 1 / math.sqrt(inputs * kernel_size**2)
        self.stride, self.padding = stride, kernel_size // 2 if stride == 1 else 0

    def forward(self, h: Tensor) -> Tensor:
        return F.conv2d(h, self.weight * self.scale, self.bias, stride=self.stride, padding=self.padding)
