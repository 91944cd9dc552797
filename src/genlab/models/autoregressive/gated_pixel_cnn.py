"""Gated PixelCNN: images drawn one value at a time by two stacks, over the rows above and over the row itself."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from genlab.distributions.drawing import Draws
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.precision import own_precision
from genlab.layers.stack_conv import HorizontalConv, StackCache, VerticalConv
from genlab.models.adversarial import given
from genlab.models.base import AutoregressiveModel

# How a convolution is applied: to whole images, or at one row or position of a StackCache.
Apply = Callable[[nn.Module, Tensor], Tensor]
# The gate of two standard normal inputs has a mean square of 1 / GAIN; the factor GAIN restores unit variance.
GAIN = 8.65


def _whole(conv: nn.Module, x: Tensor) -> Tensor:
    return conv(x)


def gate(x: Tensor, groups: int) -> Tensor:
    """Apply the gate of equation 2 of the paper within each group of channels: ``(B, 2p, ...)`` to ``(B, p, ...)``."""
    f, g = x.unflatten(1, (groups, 2, -1)).unbind(2)
    return (torch.tanh(f) * torch.sigmoid(g)).flatten(1, 2)


class GatedLayer(nn.Module):
    """The gated layer of figure 2 of the paper; the first one reads the values and has no residual connection.

    Args:
        in_channels: input channels of each stack: C in the first layer, else p.
        p: output channels of each stack.
        rows: number of rows of the vertical convolution's kernel.
        kernel_size: width of the vertical and the horizontal convolution, odd.
        mask: mask of the horizontal convolution, "A" in the first layer and "B" in the others.
        groups: number of channels of the image, C.
        num_layers: number of layers whose outputs add up in the horizontal stack; each is scaled down accordingly, so
            that the sum has about unit variance.
    """

    def __init__(
        self,
        in_channels: int,
        p: int,
        rows: int,
        kernel_size: PositiveInt,
        mask: Literal["A", "B"],
        groups: int,
        num_layers: int,
    ) -> None:
        super().__init__()
        self.residual = mask == "B"
        self.vertical = VerticalConv(in_channels, 2 * p, rows, kernel_size, GAIN if self.residual else 1)
        self.link = nn.Conv2d(2 * p, 2 * p, 1)  # needs no mask: the rows above come before every channel of this row
        nn.init.normal_(self.link.weight, std=(0.5 / (2 * p)) ** 0.5)
        self.horizontal = HorizontalConv(in_channels, 2 * p, kernel_size, mask, groups, gain=0.5)
        self.expand = HorizontalConv(p, p, 1, "B", groups, GAIN / num_layers if self.residual else GAIN)

    def look_above(self, v: Tensor, class_bias: Tensor | None, apply: Apply) -> tuple[Tensor, Tensor]:
        """Run the vertical stack.

        Args:
            v: features of the vertical stack, ``(B, in_channels, H, W)``.
            class_bias: bias that the classes add to both stacks' gates, ``(B, 4p, 1, 1)``; None for an unconditional
                model.
            apply: function that applies a convolution, to whole images or to one row.

        Returns:
            The new features, ``(B, p, H, W)``, and what the horizontal stack adds to its gates, ``(B, 2p, H, W)``.
        """
        v = apply(self.vertical, v)
        link = self.link(v)
        if class_bias is not None:
            of_vertical, of_horizontal = class_bias.chunk(2, dim=1)
            v, link = v + of_vertical, link + of_horizontal
        return gate(v, 1), link

    def look_left(self, h: Tensor, link: Tensor, groups: int, apply: Apply) -> Tensor:
        """Run the horizontal stack: features ``(B, in_channels, ...)`` to ``(B, p, ...)``."""
        z = gate(apply(self.horizontal, h) + link, groups)
        z = apply(self.expand, z)
        return h + z if self.residual else z


class GatedPixelCNN(AutoregressiveModel):
    """The Gated PixelCNN of Conditional Image Generation with PixelCNN Decoders (arXiv:1606.05328).

    ``p(x) = prod_i p(x_i | x_<i)`` over the values in raster order, the channels of a pixel one after the other. The
    vertical stack sees the rows above, the horizontal one its own row and the vertical stack; so a value sees all
    values before it within ``R = 3 + num_layers * (kernel_size // 2)`` rows and columns. A class adds a learned bias to
    both parts of every gate (equation 4).

    Args:
        shape: image shape ``(C, H, W)``.
        distribution: distribution of one value given the values before it.
        channels: channels of each stack, p of the paper, rounded up to a multiple of ``C``.
        num_layers: number of gated layers after the first, whose convolutions are 7 wide.
        num_classes: number of classes; None for an unconditional model.
        kernel_size: width of the convolutions after the first layer, n of the paper, odd.

    Raises:
        InputError: if the shape is not an image's, a size is not positive, or ``kernel_size`` is even.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        distribution: PixelDistribution,
        channels: int = 32,
        num_layers: int = 7,
        num_classes: int | None = None,
        kernel_size: PositiveInt = 3,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: GatedPixelCNN models images (C, H, W)")
        if channels < 1 or num_layers < 1:
            raise InputError(f"channels={channels}, num_layers={num_layers}: expected at least 1 of each")
        groups = shape[0]
        p = math.ceil(channels / groups) * groups
        self.distribution = distribution
        self.first = GatedLayer(groups, p, 3, 7, "A", groups, num_layers)
        rows = kernel_size // 2 + 1
        self.layers = nn.ModuleList(
            GatedLayer(p, p, rows, kernel_size, "B", groups, num_layers) for _ in range(num_layers)
        )
        self.hidden = HorizontalConv(p, p, 1, "B", groups, gain=2)
        self.last = HorizontalConv(p, groups * distribution.num_params, 1, "B", groups, gain=0.01)
        if num_classes is not None:
            self.class_bias = nn.Embedding(num_classes, (num_layers + 1) * 4 * p)
            nn.init.zeros_(self.class_bias.weight)

    def _class_biases(self, y: Tensor | None) -> Sequence[Tensor | None]:
        """Return the bias of each layer's gates, ``(B, 4p, 1, 1)``, or None if the model is unconditional."""
        if self.num_classes is None:
            return [None] * (len(self.layers) + 1)
        return self.class_bias(given(y))[:, :, None, None].chunk(len(self.layers) + 1, dim=1)

    def _look_above(self, above: Tensor, class_biases: Sequence[Tensor | None], apply: Apply) -> list[Tensor]:
        """Run the vertical stack on the rows above and return what it adds to the horizontal gates of every layer.

        It runs on whole images, moved down by one row, or on one row.
        """
        v, links = above, []
        for layer, class_bias in zip((self.first, *self.layers), class_biases, strict=True):
            v, link = layer.look_above(v, class_bias, apply)
            links.append(link)
        return links

    def _look_left(self, h: Tensor, links: Sequence[Tensor], groups: int, apply: Apply) -> Tensor:
        """Map values to parameters by the horizontal stack, for whole images or for one group at one position."""
        for layer, link in zip((self.first, *self.layers), links, strict=True):
            h = layer.look_left(h, link, groups, apply)
        h = F.relu(apply(self.hidden, F.relu(h)))
        with own_precision(h, self.distribution.needs_float32):
            return apply(self.last, h.to(self.last.weight.dtype))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images in [0, 1] to each value's parameters given the values before, ``(B, num_params, C, H, W)``."""
        x = (2 * x - 1).to(self.last.weight.dtype)
        above = F.pad(x, (0, 0, 1, -1))  # moved down by one row
        links = self._look_above(above, self._class_biases(y), _whole)
        params = self._look_left(x, links, self.shape[0], _whole)  # (B, C * num_params, H, W)
        return params.unflatten(1, (self.shape[0], -1)).transpose(1, 2)

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Draw value by value; the vertical stack runs once per row, the horizontal one at one position per value."""
        groups, height, width = self.shape
        num_samples = len(draws.u)
        class_biases = self._class_biases(y)
        convs = (m for m in self.modules() if isinstance(m, VerticalConv | HorizontalConv))
        cache = StackCache(convs, num_samples, width)
        x = torch.empty_like(draws.u)
        above = self.last.weight.new_zeros(num_samples, groups, 1, width)
        unknown = above[:, 0, 0, :1]  # placeholder for the value to draw, which the first layer's mask hides, (N, 1)
        for row in range(height):
            links = torch.stack(self._look_above(above, class_biases, cache))  # (layers, N, 2p, 1, W)
            links = links.squeeze(3).unflatten(2, (groups, -1))  # (layers, N, C, 2p / C, W)
            for column in range(width):
                for group in range(groups):
                    cache.move(column, group)
                    params = self._look_left(unknown, links[:, :, group, :, column].unbind(), 1, cache)
                    value = draws(params, group, row, column)
                    cache.write(self.first.horizontal, (2 * value - 1).unsqueeze(1))
                    x[:, group, row, column] = value
            above = (2 * x[:, :, row : row + 1] - 1).to(above.dtype)
        return x
