"""Convolutions that look up, or up and to the left, and their evaluation one row or one pixel at a time.

PixelCNN++ (arXiv:1701.05517), section 2.5. Nothing is masked: padding shifts the kernel. To exclude the current pixel
itself, shift the image by one. A layer of stride 2 halves a map, with odd sides rounded up. It looks up and left from
every second pixel, so that everything it sees comes before all four pixels that its output represents.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError


class ShiftedConv2d(nn.Module):
    """Convolution over a row and the rows above it; ``(B, in_channels, H, W)`` to ``(B, out_channels, H', W')``.

    Args:
        in_channels: number of input channels.
        out_channels: number of output channels.
        kernel_size: numbers of rows and columns of the kernel; the current row is the last.
        left: number of columns to the left of the current one; the remaining columns are to its right.
        stride: 1, or 2 to halve the map.
        gain: variance of the outputs at initialization, for inputs of variance 1.

    Attributes:
        first_deviation: standard deviation of the outputs if they are initialized from data.
    """

    first_deviation: float = 1.0

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: tuple[int, int],
        left: int,
        stride: int = 1,
        gain: float = 1.0,
    ) -> None:
        super().__init__()
        self.in_channels, self.stride, self.left = in_channels, stride, left
        self.rows, self.columns = kernel_size
        self.right = self.columns - 1 - left
        fan_in = in_channels * self.rows * self.columns
        self.weight = nn.Parameter(torch.randn(out_channels, in_channels, *kernel_size) * (gain / fan_in) ** 0.5)
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (self.left, self.right, self.rows - 1, 0)), self.weight, self.bias, self.stride)


class DownConv(ShiftedConv2d):
    """Convolution that looks up, and equally far to the left and right; see :class:`ShiftedConv2d`.

    Raises:
        InputError: if the kernel has an even number of columns.
    """

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int = 1, gain: float = 1.0
    ) -> None:
        if kernel_size[1] % 2 == 0:
            raise InputError(f"kernel_size={tuple(kernel_size)}: looking to both sides alike takes odd columns")
        super().__init__(in_channels, out_channels, kernel_size, kernel_size[1] // 2, stride, gain)


class DownRightConv(ShiftedConv2d):
    """Convolution that looks up and to the left; see :class:`ShiftedConv2d`."""

    def __init__(
        self, in_channels: int, out_channels: int, kernel_size: tuple[int, int], stride: int = 1, gain: float = 1.0
    ) -> None:
        super().__init__(in_channels, out_channels, kernel_size, kernel_size[1] - 1, stride, gain)


class ShiftedCache:
    """Cache of the inputs of a network of shifted convolutions, while images are generated pixel by pixel.

    A map of scale ``s`` has been halved ``s`` times: its next pixel is computed when the row and the column of the
    image are multiples of ``2**s``. A :class:`DownConv` takes whole rows, ``(N, in_channels, 1, W)``, a
    :class:`DownRightConv` one pixel, ``(N, in_channels, 1, 1)``, both in raster order. The outputs are the same as for
    whole images.

    Args:
        layers: convolutions whose inputs are cached, each with the width of the map that it reads.
        num_samples: number of images N.
    """

    def __init__(self, layers: Iterable[tuple[ShiftedConv2d, int]], num_samples: int) -> None:
        self.row = self.column = 0
        self._inputs: dict[ShiftedConv2d, Tensor] = {}  # (N, in, rows, padded width)
        self._rows: dict[ShiftedConv2d, int] = {}
        for layer, width in layers:
            size = (num_samples, layer.in_channels, layer.rows, width + layer.left + layer.right)
            self._inputs[layer], self._rows[layer] = layer.weight.new_zeros(size), -1

    def move(self, row: int, column: int) -> None:
        """Move to a pixel of the image."""
        self.row, self.column = row, column

    def width(self, layer: ShiftedConv2d) -> int:
        """Give the width of the map that the layer reads."""
        return self._inputs[layer].shape[3] - layer.left - layer.right

    def write(self, layer: ShiftedConv2d, x: Tensor, scale: int = 0) -> None:
        """Store ``x`` as the layer's input at the current row or pixel of a map of ``scale``."""
        inputs, row = self._inputs[layer], self.row >> scale
        if self._rows[layer] != row:  # first input of a new row
            inputs[:, :, :-1] = inputs[:, :, 1:].clone()
            self._rows[layer] = row
        first = layer.left + (self.column >> scale if isinstance(layer, DownRightConv) else 0)
        inputs[:, :, -1:, first : first + x.shape[3]] = x

    def read(self, layer: ShiftedConv2d, scale: int = 0) -> Tensor:
        """Compute the layer's output at the current row or pixel of the map of ``scale`` that it reads."""
        inputs = self._inputs[layer]
        if isinstance(layer, DownRightConv):
            column = self.column >> scale
            inputs = inputs[:, :, :, column : column + layer.columns]
        return F.conv2d(inputs, layer.weight, layer.bias, (1, layer.stride))
