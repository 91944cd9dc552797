"""Gated PixelCNN: an image one value at a time, by a stack over the rows above and one over the row itself."""

import math
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.drawing import Draws
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.precision import own_precision
from genlab.layers.stack_conv import HorizontalConv, StackCache, VerticalConv
from genlab.models.base import AutoregressiveModel, given

# How a convolution is applied: to whole images, or at one row or position of a StackCache.
Apply = Callable[[nn.Module, Tensor], Tensor]
# A gate of two standard normals has a mean square of 1 / GAIN: this keeps features of unit variance at any depth.
GAIN = 8.65


def _whole(conv: nn.Module, x: Tensor) -> Tensor:
    return conv(x)


def gate(x: Tensor, groups: int) -> Tensor:
    """Equation 2 of the paper: ``(B, 2p, ...)`` to ``(B, p, ...)``, within each of the groups of channels."""
    f, g = x.unflatten(1, (groups, 2, -1)).unbind(2)
    return (torch.tanh(f) * torch.sigmoid(g)).flatten(1, 2)


class GatedLayer(nn.Module):
    """Figure 2 of the paper. The first layer sees the values themselves, and adds nothing to them.

    Args:
        in_channels: of both stacks; C in the first layer, else p.
        p: features of either stack.
        rows, kernel_size: of the vertical convolution; the horizontal one is as wide.
        mask: "A" in the first layer.
        groups: C.
        num_layers: among which the unit variance of the horizontal stack's sum is shared out.
    """

    def __init__(
        self,
        in_channels: int,
        p: int,
        rows: int,
        kernel_size: int,
        mask: Literal["A", "B"],
        groups: int,
        num_layers: int,
    ) -> None:
        super().__init__()
        self.residual = mask == "B"
        self.vertical = VerticalConv(in_channels, 2 * p, rows, kernel_size, GAIN if self.residual else 1)
        self.link = nn.Conv2d(2 * p, 2 * p, 1)  # masks nothing: the rows above are before every channel of this one
        nn.init.normal_(self.link.weight, std=(0.5 / (2 * p)) ** 0.5)
        self.horizontal = HorizontalConv(in_channels, 2 * p, kernel_size, mask, groups, gain=0.5)
        self.expand = HorizontalConv(p, p, 1, "B", groups, GAIN / num_layers if self.residual else GAIN)

    def look_above(self, v: Tensor, class_bias: Tensor | None, apply: Apply) -> tuple[Tensor, Tensor]:
        """The vertical stack, ``(B, in, H, W)`` to ``(B, p, H, W)``, and what it tells the other, ``(B, 2p, H, W)``.

        Args:
            class_bias: of both stacks' gates, ``(B, 4p, 1, 1)``.
        """
        v = apply(self.vertical, v)
        link = self.link(v)
        if class_bias is not None:
            of_vertical, of_horizontal = class_bias.chunk(2, dim=1)
            v, link = v + of_vertical, link + of_horizontal
        return gate(v, 1), link

    def look_left(self, h: Tensor, link: Tensor, groups: int, apply: Apply) -> Tensor:
        """The horizontal stack, ``(B, in, ...)`` to ``(B, p, ...)``."""
        z = gate(apply(self.horizontal, h) + link, groups)
        z = apply(self.expand, z)
        return h + z if self.residual else z


class GatedPixelCNN(AutoregressiveModel):
    """Conditional Image Generation with PixelCNN Decoders (arXiv:1606.05328).

    ``p(x) = prod_i p(x_i | x_<i)`` over the values in raster order, the channels of a pixel one after the other. The
    vertical stack sees all of the rows above, the horizontal one the row itself and the vertical one; so a value sees
    all values before it within ``R = 3 + num_layers * (kernel_size // 2)`` rows and columns. A class adds a learnt bias
    to both parts of every gate (equation 4).

    Args:
        shape: ``(C, H, W)``.
        distribution: of one value.
        channels: p of the paper, features of either stack; rounded up to a multiple of ``C``.
        num_layers: gated layers after the first, whose convolution is 7 wide.
        num_classes: of a class-conditional model.
        kernel_size: n of the paper, odd.

    Raises:
        InputError: the shape is not an image's, or a size is not positive or even.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        distribution: PixelDistribution,
        channels: int = 32,
        num_layers: int = 7,
        num_classes: int | None = None,
        kernel_size: int = 3,
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
        """Of the first layer and the others, ``(B, 4p, 1, 1)`` each, or None."""
        if self.num_classes is None:
            return [None] * (len(self.layers) + 1)
        return self.class_bias(given(y))[:, :, None, None].chunk(len(self.layers) + 1, dim=1)

    def _look_above(self, above: Tensor, class_biases: Sequence[Tensor | None], apply: Apply) -> list[Tensor]:
        """What the vertical stack tells every layer of a row, from the row above it; whole images or one row."""
        v, links = above, []
        for layer, class_bias in zip((self.first, *self.layers), class_biases, strict=True):
            v, link = layer.look_above(v, class_bias, apply)
            links.append(link)
        return links

    def _look_left(self, h: Tensor, links: Sequence[Tensor], groups: int, apply: Apply) -> Tensor:
        """Values to parameters, by the horizontal stack; one text for whole images and for one group at a position."""
        for layer, link in zip((self.first, *self.layers), links, strict=True):
            h = layer.look_left(h, link, groups, apply)
        h = F.relu(apply(self.hidden, F.relu(h)))
        with own_precision(h, self.distribution.needs_float32):
            return apply(self.last, h.to(self.last.weight.dtype))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Images in [0, 1] to the parameters of each value given the values before, ``(B, num_params, C, H, W)``."""
        x = (2 * x - 1).to(self.last.weight.dtype)
        above = F.pad(x, (0, 0, 1, -1))  # moved down by one row
        links = self._look_above(above, self._class_biases(y), _whole)
        params = self._look_left(x, links, self.shape[0], _whole)  # (B, C * num_params, H, W)
        return params.unflatten(1, (self.shape[0], -1)).transpose(1, 2)

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Value by value; the vertical stack once a row, and of the horizontal one a column a value."""
        groups, height, width = self.shape
        num_samples = len(draws.u)
        class_biases = self._class_biases(y)
        convs = (m for m in self.modules() if isinstance(m, VerticalConv | HorizontalConv))
        cache = StackCache(convs, num_samples, width)
        x = torch.empty_like(draws.u)
        above = self.last.weight.new_zeros(num_samples, groups, 1, width)
        unknown = above[:, 0, 0, :1]  # what the first layer is given of a value that it does not see, (N, 1)
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
