"""Masked convolution for autoregressive models of images, and its evaluation one position at a time.

Pixel Recurrent Neural Networks (arXiv:1601.06759), sections 3.4 and 4. Values are generated in raster order and, within
a pixel, channel by channel. The features of every layer are split into as many groups as the image has channels. At
its own pixel, group ``g`` of a mask-A layer sees the groups before ``g``; group ``g`` of a mask-B layer also sees ``g``
itself. Both see everything at earlier pixels.
"""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError


class MaskedConv2d(nn.Module):
    """Convolution of stride 1 that sees no later value; ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``.

    The weight has no rows below the centre of the kernel, because they would be masked completely. Its shape is
    ``(out_channels, in_channels, kernel_size // 2 + 1, kernel_size)``.

    Args:
        in_channels: number of input channels, a multiple of ``num_groups``; group ``g`` is the ``g``-th contiguous
            block.
        out_channels: number of output channels, grouped in the same way.
        kernel_size: side of the kernel before the cut; odd.
        mask: "A" for the layer that sees the image, "B" for the layers after it.
        num_groups: number of channels of the image.

    Raises:
        InputError: if ``kernel_size`` is even, or the channels are no multiples of the groups.
    """

    mask: Tensor

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: int, mask: Literal["A", "B"], num_groups: int = 1
    ) -> None:
        super().__init__()
        if kernel_size % 2 == 0:
            raise InputError(f"kernel_size={kernel_size}: a masked convolution has a centre, choose an odd size")
        if in_channels % num_groups or out_channels % num_groups:
            raise InputError(
                f"{in_channels} and {out_channels} channels do not split into {num_groups} groups: choose multiples"
            )
        self.in_channels = in_channels
        self.num_groups = num_groups
        self.radius = radius = kernel_size // 2

        in_group = torch.arange(in_channels) * num_groups // in_channels
        out_group = torch.arange(out_channels)[:, None] * num_groups // out_channels
        seen = torch.ones(out_channels, in_channels, radius + 1, kernel_size)
        seen[:, :, -1, radius + 1 :] = 0
        seen[:, :, -1, radius] = (in_group < out_group if mask == "A" else in_group <= out_group).float()
        self.register_buffer("mask", seen, persistent=False)

        # He et al.'s initialisation; only the inputs that a unit sees count as its fan-in.
        fan_in = seen.sum((1, 2, 3), keepdim=True).clamp(min=1)
        self.weight = nn.Parameter(torch.randn_like(seen) * seen * (2 / fan_in).sqrt())
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def masked_weight(self) -> Tensor:
        """Give the weight with zeros where it is masked."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        if self.radius:
            x = F.pad(x, (self.radius, self.radius, self.radius, 0))
        return F.conv2d(x, self.masked_weight(), self.bias)


class RasterCache:
    """Cache of the inputs of a stack of masked convolutions, while images are generated value by value.

    ``cache(conv, x)`` does at one position what ``conv(x)`` does for whole images. It stores ``x``,
    ``(B, in_channels / groups)``, as the layer's input in the current column and group, and returns the layer's output
    there, ``(B, out_channels / groups)``, computed from all stored values. Only the rows that a kernel covers are kept.

    Args:
        convs: convolutions whose inputs are cached; their weights are read only once, by the constructor.
        num_samples: number of images B.
        width: width of the images in pixels.
    """

    def __init__(self, convs: Iterable[MaskedConv2d], num_samples: int, width: int) -> None:
        self.column = self.group = 0
        self._inputs: dict[MaskedConv2d, Tensor] = {}
        self._weights: dict[MaskedConv2d, list[tuple[Tensor, Tensor]]] = {}
        for conv in convs:
            weight = conv.masked_weight().detach().permute(0, 2, 3, 1).flatten(1)  # (out, taps * in)
            bias = conv.bias.detach()
            self._weights[conv] = list(zip(weight.chunk(conv.num_groups), bias.chunk(conv.num_groups), strict=True))
            # (B, rows, padded width, in)
            self._inputs[conv] = weight.new_zeros(
                num_samples, conv.radius + 1, width + 2 * conv.radius, conv.in_channels
            )

    def next_row(self) -> None:
        """Move down by one row; old values in the last row are masked until they are overwritten."""
        for inputs in self._inputs.values():
            inputs[:, :-1] = inputs[:, 1:].clone()

    def move(self, column: int, group: int) -> None:
        """Move to a column and a group of the current row."""
        self.column, self.group = column, group

    def write(self, conv: MaskedConv2d, x: Tensor) -> None:
        """Store the layer's input at the current position, ``(B, in_channels / groups)``."""
        size = conv.in_channels // conv.num_groups
        self._inputs[conv][:, -1, self.column + conv.radius, self.group * size : (self.group + 1) * size] = x

    def read(self, conv: MaskedConv2d) -> Tensor:
        """Compute the layer's output at the current position, ``(B, out_channels / groups)``."""
        patch = self._inputs[conv][:, :, self.column : self.column + 2 * conv.radius + 1].flatten(1)
        return F.linear(patch, *self._weights[conv][self.group])

    def __call__(self, conv: MaskedConv2d, x: Tensor) -> Tensor:
        self.write(conv, x)
        return self.read(conv)
