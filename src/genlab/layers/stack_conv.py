"""Convolutions of a vertical and a horizontal stack, and their evaluation one row or one position at a time.

Conditional Image Generation with PixelCNN Decoders (arXiv:1606.05328), section 2.2. The vertical stack sees whole rows,
the horizontal stack the earlier values in the current row; together they have no blind spot. Values are generated in
raster order and, within a pixel, channel by channel: the features of the horizontal stack are split into as many groups
as the image has channels, as in :mod:`genlab.layers.masked_conv`.
"""

from collections.abc import Iterable
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError


class VerticalConv(nn.Module):
    """Convolution over a row and the rows above it; ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``.

    Nothing is masked; to see only the rows above, shift the image down by one row.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        rows: number of rows that the kernel covers; the current row is the last.
        kernel_size: number of columns that the kernel covers; odd.
        gain: variance of the outputs at initialization, for inputs of variance 1.

    Raises:
        InputError: if ``kernel_size`` is even.
    """

    def __init__(self, in_channels: int, out_channels: int, rows: int, kernel_size: int, gain: float = 1.0) -> None:
        super().__init__()
        _check_odd(kernel_size)
        self.in_channels, self.rows = in_channels, rows
        self.radius = kernel_size // 2
        fan_in = in_channels * rows * kernel_size
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, rows, kernel_size) * (gain / fan_in) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (self.radius, self.radius, self.rows - 1, 0)), self.weight, self.bias)


class HorizontalConv(nn.Module):
    """Convolution over a pixel and the pixels to its left; ``(B, in_channels, H, W)`` to ``(B, out_channels, H, W)``.

    Args:
        in_channels: number of input channels, a multiple of ``num_groups``; group ``g`` is the ``g``-th contiguous
            block.
        out_channels: number of output channels, grouped in the same way.
        kernel_size: number of columns of the kernel before the cut; odd. The columns to the right of the centre are
            cut off, because they would be masked.
        mask: type of the mask: at its own pixel, group ``g`` sees the groups before ``g`` ("A"), or also ``g`` ("B").
        num_groups: number of channels of the image.
        gain: variance of the outputs at initialization, for inputs of variance 1.

    Raises:
        InputError: if ``kernel_size`` is even, or the channels are no multiples of the groups.
    """

    mask: Tensor

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: int,
        mask: Literal["A", "B"],
        num_groups: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        _check_odd(kernel_size)
        if in_channels % num_groups or out_channels % num_groups:
            raise InputError(
                f"{in_channels} and {out_channels} channels do not split into {num_groups} groups: choose multiples"
            )
        self.in_channels = in_channels
        self.num_groups = num_groups
        self.radius = kernel_size // 2
        in_group = torch.arange(in_channels) * num_groups // in_channels
        out_group = torch.arange(out_channels)[:, None] * num_groups // out_channels
        seen = torch.ones(out_channels, in_channels, 1, self.radius + 1)
        seen[:, :, 0, -1] = (in_group < out_group if mask == "A" else in_group <= out_group).float()
        self.register_buffer("mask", seen, persistent=False)
        fan_in = seen.sum((1, 2, 3), keepdim=True).clamp(min=1)  # the inputs that a unit sees
        self.weight = nn.Parameter(torch.randn_like(seen) * seen * (gain / fan_in).sqrt())
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def masked_weight(self) -> Tensor:
        """Give the weight with zeros where it is masked."""
        return self.weight * self.mask

    def forward(self, x: Tensor) -> Tensor:
        if self.radius:
            x = F.pad(x, (self.radius, 0))
        return F.conv2d(x, self.masked_weight(), self.bias)


class StackCache:
    """Cache of the inputs of both stacks, while images are generated value by value.

    A vertical layer computes one row at a time, from ``(B, in_channels, 1, W)`` and the stored rows above, once the row
    above is complete. A horizontal layer computes one group at one position, from ``(B, in_channels / groups)`` and the
    stored values to its left. The outputs are the same as for whole images.

    Args:
        layers: layers of both kinds; their weights are read only once, by the constructor.
        num_samples: number of images B.
        width: width of the images in pixels.
    """

    def __init__(self, layers: Iterable[VerticalConv | HorizontalConv], num_samples: int, width: int) -> None:
        self.column = self.group = 0
        self._inputs: dict[nn.Module, Tensor] = {}
        self._weights: dict[HorizontalConv, list[tuple[Tensor, Tensor]]] = {}
        for layer in layers:
            if isinstance(layer, VerticalConv):  # (B, in, rows, padded width)
                size = (num_samples, layer.in_channels, layer.rows, width + 2 * layer.radius)
                self._inputs[layer] = layer.weight.new_zeros(size)
            else:  # (B, padded width, in)
                self._inputs[layer] = layer.weight.new_zeros(num_samples, width + layer.radius, layer.in_channels)
                weight = layer.masked_weight().detach().permute(0, 2, 3, 1).flatten(1)  # (out, taps * in)
                parts = zip(weight.chunk(layer.num_groups), layer.bias.detach().chunk(layer.num_groups), strict=True)
                self._weights[layer] = list(parts)

    def __call__(self, layer: nn.Module, x: Tensor) -> Tensor:
        """Store a layer's next input ``x`` and compute its output there.

        For a vertical layer that is the next row; for a horizontal layer, the current position.
        """
        if isinstance(layer, VerticalConv):
            inputs = self._inputs[layer]
            inputs[:, :, :-1] = inputs[:, :, 1:].clone()
            inputs[:, :, -1:, layer.radius : inputs.shape[3] - layer.radius] = x
            return F.conv2d(inputs, layer.weight, layer.bias)
        assert isinstance(layer, HorizontalConv)
        self.write(layer, x)
        patch = self._inputs[layer][:, self.column : self.column + layer.radius + 1].flatten(1)
        return F.linear(patch, *self._weights[layer][self.group])

    def move(self, column: int, group: int) -> None:
        """Move to a column and a group of the current row; values left from the row above are masked or overwritten."""
        self.column, self.group = column, group

    def write(self, layer: HorizontalConv, x: Tensor) -> None:
        """Store the layer's input at the current position, ``(B, in_channels / groups)``."""
        size = layer.in_channels // layer.num_groups
        self._inputs[layer][:, self.column + layer.radius, self.group * size : (self.group + 1) * size] = x


def _check_odd(kernel_size: int) -> None:
    if kernel_size % 2 == 0:
        raise InputError(f"kernel_size={kernel_size}: a masked convolution has a centre, choose an odd size")
