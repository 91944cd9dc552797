"""PixelCNN: images drawn one value at a time by masked convolutions over the values before it."""

import math
from collections.abc import Callable, Iterable
from typing import ClassVar

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from genlab.distributions.drawing import Draws
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.masked_conv import MaskedConv2d, RasterCache
from genlab.models.adversarial import given
from genlab.models.base import AutoregressiveModel

# How a masked convolution is applied: to whole images, or at one position of a RasterCache.
Apply = Callable[[MaskedConv2d, Tensor], Tensor]


def _whole(conv: MaskedConv2d, x: Tensor) -> Tensor:
    return conv(x)


class ResidualBlock(nn.Module):
    """The residual block of figure 5 (left): reduction from 2h channels to h, masked convolution, expansion to 2h."""

    def __init__(self, h: int, kernel_size: PositiveInt, groups: int) -> None:
        super().__init__()
        self.reduce = MaskedConv2d(2 * h, h, 1, "B", groups)
        self.conv = MaskedConv2d(h, h, kernel_size, "B", groups)
        self.expand = MaskedConv2d(h, 2 * h, 1, "B", groups)

    def forward(self, x: Tensor, class_bias: Tensor | None, apply: Apply) -> Tensor:
        # In place wherever no gradient needs the old values: training is bound by memory traffic, not by arithmetic.
        z = apply(self.reduce, F.relu(x))
        z = apply(self.conv, z.relu_())
        if class_bias is not None:
            z += class_bias
        return apply(self.expand, z.relu_()).add_(x)


class PixelCNN(AutoregressiveModel):
    """The PixelCNN of Pixel Recurrent Neural Networks (arXiv:1601.06759), section 3.5.

    ``p(x) = prod_i p(x_i | x_<i)`` over the values in raster order, the channels of a pixel one after the other. A 7x7
    mask-A convolution, residual blocks, and two 1x1 layers map all values to the parameters of each value's
    distribution at once. A class adds a learned bias to the features of every block.

    Args:
        shape: image shape ``(C, H, W)``.
        distribution: distribution of one value given the values before it.
        channels: channels inside a residual block, ``h`` of the paper, rounded up to a multiple of ``C``; the residual
            stream has ``2h``.
        num_layers: number of residual blocks.
        num_classes: number of classes; None for an unconditional model.
        kernel_size: kernel size of the blocks' convolutions, odd; the paper's is 3. A pixel sees ``3 + num_layers *
            (kernel_size // 2)`` rows above it and as many columns to either side.
        kind: modality of the data. "codes", which have no order, are embedded as learned vectors of ``2h`` numbers; the
            values of all other modalities are read as numbers.

    Raises:
        InputError: if the shape is not an image's, or a size is not positive.
    """

    kinds: ClassVar[frozenset[str]] = frozenset({"image", "binary", "codes"})

    def __init__(
        self,
        shape: tuple[int, ...],
        distribution: PixelDistribution,
        channels: int = 32,
        num_layers: int = 7,
        num_classes: int | None = None,
        kernel_size: PositiveInt = 3,
        kind: str = "image",
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: PixelCNN models images (C, H, W)")
        if channels < 1 or num_layers < 1:
            raise InputError(f"channels={channels}, num_layers={num_layers}: expected at least 1 of each")
        groups = shape[0]
        h = math.ceil(channels / groups) * groups
        self.distribution = distribution
        self.values = nn.Embedding(distribution.levels, 2 * h) if kind == "codes" else None
        self.first = MaskedConv2d(groups if self.values is None else groups * 2 * h, 2 * h, 7, "A", groups)
        blocks = [ResidualBlock(h, kernel_size, groups) for _ in range(num_layers)]
        self.blocks = nn.ModuleList(blocks)
        self.hidden = MaskedConv2d(2 * h, 2 * h, 1, "B", groups)
        self.last = MaskedConv2d(2 * h, groups * distribution.num_params, 1, "B", groups)
        if num_classes is not None:
            self.class_bias = nn.Embedding(num_classes, num_layers * h)
            nn.init.zeros_(self.class_bias.weight)
        with torch.no_grad():  # so that the stream's variance does not grow with depth, and parameters start near 0
            for block in blocks:
                block.expand.weight.mul_(num_layers**-0.5)
            self.last.weight.mul_(0.1)

    def _class_biases(self, y: Tensor | None) -> Iterable[Tensor | None]:
        """Return the bias of each block's features, ``(B, h)``, or None if the model is unconditional."""
        if self.num_classes is None:
            return [None] * len(self.blocks)
        return self.class_bias(given(y)).chunk(len(self.blocks), dim=1)

    def _read(self, x: Tensor) -> Tensor:
        """Convert values ``(B, C, ...)`` in [0, 1] to the first layer's input, ``(B, C or C * 2h, ...)``."""
        if self.values is None:
            return (2 * x - 1).to(self.first.weight.dtype)
        return self.values(self.distribution.index(x)).movedim(-1, 2).flatten(1, 2)

    def _after_first(self, x: Tensor, class_biases: Iterable[Tensor | None], apply: Apply) -> Tensor:
        """Map the first layer's features to parameters, for whole images or for one group at one position."""
        for block, class_bias in zip(self.blocks, class_biases, strict=True):
            x = block(x, class_bias, apply)
        x = apply(self.hidden, x.relu_())
        return apply(self.last, x.relu_())

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images in [0, 1] to each value's parameters given the values before, ``(B, num_params, C, H, W)``."""
        biases = [None if bias is None else bias[:, :, None, None] for bias in self._class_biases(y)]
        x = self.first(self._read(x))
        params = self._after_first(x, biases, _whole)  # (B, C * num_params, H, W)
        return params.unflatten(1, (self.shape[0], -1)).transpose(1, 2)

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Draw value by value; each costs one column of features, as a :class:`RasterCache` keeps the earlier ones."""
        groups, height, width = self.shape
        biases = [[None] * groups if bias is None else bias.chunk(groups, 1) for bias in self._class_biases(y)]
        cache = RasterCache((m for m in self.modules() if isinstance(m, MaskedConv2d)), len(draws.u), width)
        x = torch.empty_like(draws.u)
        for row in range(height):
            for column in range(width):
                for group in range(groups):
                    cache.move(column, group)
                    features = cache.read(self.first)  # (B, 2h / C)
                    params = self._after_first(features, [bias[group] for bias in biases], cache)
                    value = draws(params, group, row, column)
                    cache.write(self.first, self._read(value.unsqueeze(1)))
                    x[:, group, row, column] = value
            cache.next_row()
        return x
