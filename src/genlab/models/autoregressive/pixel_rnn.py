"""PixelRNN: images drawn one value at a time by LSTMs that run down the rows or along the diagonals."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from pydantic import PositiveInt
from torch import Tensor, nn

from genlab.distributions.drawing import Draws
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.masked_conv import MaskedConv2d, RasterCache
from genlab.layers.precision import own_precision
from genlab.layers.stack_conv import HorizontalConv, StackCache
from genlab.models.adversarial import given
from genlab.models.base import AutoregressiveModel

# How a convolution is applied: to whole images, or at one position of a StackCache.
Apply = Callable[[HorizontalConv, Tensor], Tensor]


def _whole(conv: HorizontalConv, x: Tensor) -> Tensor:
    return conv(x)


def lstm(gates: Tensor, c: Tensor, groups: int) -> tuple[Tensor, Tensor]:
    """Update an LSTM's state by equation 3 of the paper, separately within each group of channels.

    Args:
        gates: gates o, f, i and g of every group, before their sigmoids and tanh, ``(..., 4h)``.
        c: cell state of the previous step, ``(..., h)``.
        groups: number of groups of channels.

    Returns:
        The new hidden state and cell state, ``(..., h)`` each.
    """
    o, f, i, g = gates.unflatten(-1, (groups, 4, -1)).unbind(-2)  # (..., groups, h / groups) each
    c = torch.sigmoid(f) * c.unflatten(-1, (groups, -1)) + torch.sigmoid(i) * torch.tanh(g)
    h = torch.sigmoid(o) * torch.tanh(c)
    return h.flatten(-2), c.flatten(-2)


def remember_at_first(input_to_state: HorizontalConv) -> None:
    """Set the biases of the forget gates so that they start mostly open.

    With biases of 0 the cell state would halve at each of the many steps across an image.
    """
    with torch.no_grad():
        input_to_state.bias.view(input_to_state.num_groups, 4, -1)[:, 1] = 1


class Memory(ABC):
    """The states of one recurrent layer, kept while images are generated value by value."""

    @abstractmethod
    def next_row(self) -> None:
        """Prepare the states for the next row; called before each row, including the first."""

    @abstractmethod
    def step(self, x: Tensor, column: int, group: int, apply: Apply) -> Tensor:
        """Compute the layer's output for one group at one column of the current row, ``(N, h / groups)``.

        Args:
            x: layer's input for this group and column, ``(N, in_channels / groups)``.
            column: index of the column.
            group: index of the group of channels.
            apply: function that applies a convolution at the current position.
        """


class RecurrentLayer(nn.Module, ABC):
    """A convolutional LSTM over a feature map, in which group ``g`` of a pixel sees the pixel's groups up to ``g``."""

    @abstractmethod
    def forward(self, x: Tensor, class_bias: Tensor | None) -> Tensor:
        """Map features ``(B, in_channels, H, W)`` to hidden states ``(B, h, H, W)``.

        Args:
            x: features, ``(B, in_channels, H, W)``.
            class_bias: bias that the classes add to the gates, ``(B, 4h)``; None for an unconditional model.
        """

    @abstractmethod
    def memory(self, num_samples: int, width: int, class_bias: Tensor | None) -> Memory:
        """Create the memory for generating images of the given width, before their first row."""


class RowLSTM(RecurrentLayer):
    """The Row LSTM of section 3.1 of the paper, which computes all states of a row at once, row by row.

    A state sees the ``kernel_size`` nearest states in the row above, so its receptive field above is a triangle.

    Args:
        in_channels: channels of the input, a multiple of ``groups``.
        h: channels of the hidden state, a multiple of ``groups``.
        groups: number of channels of the image.
        kernel_size: width of the input-to-state and the state-to-state convolutions, odd.

    Raises:
        InputError: if ``kernel_size`` is even.
    """

    def __init__(self, in_channels: int, h: int, groups: int, kernel_size: PositiveInt = 3) -> None:
        super().__init__()
        self.h, self.groups, self.kernel_size = h, groups, kernel_size
        self.input_to_state = HorizontalConv(in_channels, 4 * h, kernel_size, "B", groups)
        # It needs no mask: the row above comes before every channel of this row.
        self.state_to_state = nn.Linear(kernel_size * h, 4 * h, bias=False)
        remember_at_first(self.input_to_state)

    def from_above(self, h: Tensor) -> Tensor:
        """Compute what the states of the row above, ``(B, W, h)``, add to the gates, ``(B, W, 4h)``."""
        radius = self.kernel_size // 2
        about = F.pad(h, (0, 0, radius, radius)).unfold(1, self.kernel_size, 1)  # (B, W, h, kernel_size)
        return self.state_to_state(about.flatten(2))

    def forward(self, x: Tensor, class_bias: Tensor | None) -> Tensor:
        gates = self.input_to_state(x).permute(2, 0, 3, 1)  # (H, B, W, 4h)
        if class_bias is not None:
            gates = gates + class_bias[:, None]
        h = c = self.state_to_state.weight.new_zeros(len(x), x.shape[3], self.h)
        rows = []
        for gates_of_row in gates.unbind():
            h, c = lstm(gates_of_row + self.from_above(h), c, self.groups)
            rows.append(h)
        return torch.stack(rows, dim=2).permute(0, 3, 2, 1)  # (B, W, H, h) to (B, h, H, W)

    def memory(self, num_samples: int, width: int, class_bias: Tensor | None) -> Memory:
        return RowMemory(self, num_samples, width, class_bias)


class RowMemory(Memory):
    """The states of a Row LSTM: those of this row up to the current position, those of the row above from there on."""

    def __init__(self, layer: RowLSTM, num_samples: int, width: int, class_bias: Tensor | None) -> None:
        self.layer, self.class_bias = layer, class_bias
        self.h, self.c = layer.state_to_state.weight.new_zeros(2, num_samples, width, layer.h)

    def next_row(self) -> None:
        self.gates = self.layer.from_above(self.h)  # (N, W, 4h), without what the row itself adds
        if self.class_bias is not None:
            self.gates = self.gates + self.class_bias[:, None]

    def step(self, x: Tensor, column: int, group: int, apply: Apply) -> Tensor:
        groups = self.layer.groups
        gates = apply(self.layer.input_to_state, x) + self.gates[:, column].chunk(groups, -1)[group]
        h, c = (state[:, column].chunk(groups, -1)[group] for state in (self.h, self.c))  # views, written in place
        h[:], c[:] = lstm(gates, c, 1)
        return h.clone()


def skew(x: Tensor) -> Tensor:
    """Shift each row right by one more than the row above: ``(B, C, H, W)`` to ``(B, C, H, H + W - 1)``.

    Diagonals become columns.
    """
    H, W = x.shape[2:]
    # Rows padded to W + H, when read as rows of W + H - 1, each start one place later than the row before.
    return F.pad(x, (0, H)).flatten(2)[..., : H * (H + W - 1)].unflatten(2, (H, H + W - 1))


def unskew(x: Tensor) -> Tensor:
    """Undo :func:`skew`: ``(B, C, H, H + W - 1)`` to ``(B, C, H, W)``."""
    H, diagonals = x.shape[2:]
    return F.pad(x.flatten(2), (0, H)).unflatten(2, (H, diagonals + 1))[..., : diagonals + 1 - H]


class DiagonalLSTM(nn.Module):
    """One direction of a Diagonal BiLSTM, from the left: the state of a pixel sees those to its left and above it."""

    def __init__(self, in_channels: int, h: int, groups: int) -> None:
        super().__init__()
        self.h, self.groups = h, groups
        self.input_to_state = HorizontalConv(in_channels, 4 * h, 1, "B", groups)
        # It needs no mask: the pixels above and to the left come before every channel of this one.
        self.state_to_state = nn.Linear(2 * h, 4 * h, bias=False)
        remember_at_first(self.input_to_state)

    def from_before(self, above: Tensor, left: Tensor) -> Tensor:
        """Compute what the two previous states ``(..., h)`` add to the gates, ``(..., 4h)``."""
        return self.state_to_state(torch.cat([above, left], -1))

    def forward(self, x: Tensor, class_bias: Tensor | None) -> Tensor:
        """Map features ``(B, in_channels, H, W)`` to hidden states ``(B, h, H, W)``, one diagonal at a time."""
        H, W = x.shape[2:]
        gates = self.input_to_state(x)
        if class_bias is not None:
            gates = gates + class_bias[:, :, None, None]
        gates = skew(gates).permute(3, 0, 2, 1)  # (H + W - 1, B, H, 4h)
        h = c = self.state_to_state.weight.new_zeros(len(x), 0, self.h)
        diagonals = []
        for d, gates_of_diagonal in enumerate(gates.unbind()):
            top, bottom = max(0, d - W + 1), min(H, d + 1)  # the rows that the diagonal crosses
            # States of the previous diagonal from row top - 1 on, with zeros above the image and to its left.
            outside = (0, 0, int(top == 0), int(d < H))
            h, c = F.pad(h, outside), F.pad(c, outside)
            gates_here = gates_of_diagonal[:, top:bottom] + self.from_before(h[:, :-1], h[:, 1:])
            h, c = lstm(gates_here, c[:, 1:], self.groups)  # (B, bottom - top, h)
            diagonals.append(F.pad(h, (0, 0, top, H - bottom)))
        return unskew(torch.stack(diagonals, dim=3).permute(0, 2, 1, 3))  # stacked as (B, H, h, H + W - 1)


class DiagonalBiLSTM(RecurrentLayer):
    """The Diagonal BiLSTM of section 3.2 of the paper, which runs along the diagonals from both upper corners.

    A pixel sees the features of all pixels before it. If these features see only the values before their own, as those
    of a mask-A convolution do, one value stays unseen: the last value of the row above, unless the convolution's kernel
    reaches it.

    Args:
        in_channels: channels of the input, a multiple of ``groups``.
        h: channels of the hidden state, a multiple of ``groups``.
        groups: number of channels of the image.
    """

    def __init__(self, in_channels: int, h: int, groups: int) -> None:
        super().__init__()
        self.left, self.right = (DiagonalLSTM(in_channels, h, groups) for _ in range(2))

    def forward(self, x: Tensor, class_bias: Tensor | None) -> Tensor:
        from_left = self.left(x, class_bias)
        from_right = self.right(x.flip(3), class_bias).flip(3)
        return from_left + F.pad(from_right, (0, 0, 1, -1))  # moved down one row, as it has seen pixels to the right

    def memory(self, num_samples: int, width: int, class_bias: Tensor | None) -> Memory:
        return DiagonalMemory(self, num_samples, width, class_bias)


class DiagonalMemory(Memory):
    """The states of a Diagonal BiLSTM.

    Those from the left are updated at every position; those from the right once per row, when the row is complete.
    """

    def __init__(self, layer: DiagonalBiLSTM, num_samples: int, width: int, class_bias: Tensor | None) -> None:
        self.layer = layer
        self.class_bias: Tensor | float = 0.0 if class_bias is None else class_bias
        self.width = width
        weight = layer.left.state_to_state.weight
        # h and c: states from the left, of this row up to the current position and of the row above from there on, with
        # a column of zeros before the first column of the image. h_right: states from the right, of the row above.
        self.h, self.c = weight.new_zeros(2, num_samples, width + 1, layer.left.h)
        self.h_right = weight.new_zeros(num_samples, width, layer.left.h)
        self.inputs = weight.new_zeros(num_samples, layer.left.input_to_state.in_channels, 1, width)
        self.begun = False

    def next_row(self) -> None:
        if self.begun:
            self._run_from_right()
        self.begun = True

    def _run_from_right(self) -> None:
        lstm_right = self.layer.right
        gates = lstm_right.input_to_state(self.inputs).squeeze(2).movedim(2, 0) + self.class_bias  # (W, N, 4h)
        h = c = torch.zeros_like(self.h_right[:, 0])
        for column in reversed(range(self.width)):
            before = lstm_right.from_before(self.h_right[:, column], h)
            h, c = lstm(gates[column] + before, c, lstm_right.groups)
            self.h_right[:, column] = h

    def step(self, x: Tensor, column: int, group: int, apply: Apply) -> Tensor:
        lstm_left, groups = self.layer.left, self.layer.left.groups
        here = column + 1
        if group == 0:
            self.gates = lstm_left.from_before(self.h[:, here], self.h[:, here - 1]) + self.class_bias  # (N, 4h)
        self.inputs[:, :, 0, column].chunk(groups, 1)[group][:] = x
        gates = apply(lstm_left.input_to_state, x) + self.gates.chunk(groups, 1)[group]
        h, c = lstm(gates, self.c[:, here - 1].chunk(groups, 1)[group], 1)
        self.h[:, here].chunk(groups, 1)[group][:] = h
        self.c[:, here].chunk(groups, 1)[group][:] = c
        return h + self.h_right[:, column].chunk(groups, 1)[group]


class PixelRNN(AutoregressiveModel):
    """The PixelRNN of Pixel Recurrent Neural Networks (arXiv:1601.06759), with the LSTMs of section 3.

    ``p(x) = prod_i p(x_i | x_<i)`` over the values in raster order, the channels of a pixel one after the other. A 7x7
    mask-A convolution, recurrent layers with residual connections (figure 5, right), and two 1x1 layers map all values
    to the parameters of each value's distribution. A class adds a learned bias to the gates of every layer.

    Args:
        shape: image shape ``(C, H, W)``.
        distribution: distribution of one value given the values before it.
        layer: function that builds a recurrent layer from the number of its input channels, of its hidden channels
            ``h``, and of the image's channels.
        channels: hidden channels, ``h`` of the paper, rounded up to a multiple of ``C``; the residual stream has
            ``2h``.
        num_layers: number of recurrent layers.
        num_classes: number of classes; None for an unconditional model.

    Raises:
        InputError: if the shape is not an image's, or a size is not positive.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        distribution: PixelDistribution,
        layer: Callable[[int, int, int], RecurrentLayer],
        channels: int = 16,
        num_layers: int = 7,
        num_classes: int | None = None,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: PixelRNN models images (C, H, W)")
        if channels < 1 or num_layers < 1:
            raise InputError(f"channels={channels}, num_layers={num_layers}: expected at least 1 of each")
        groups = shape[0]
        h = math.ceil(channels / groups) * groups
        self.distribution = distribution
        self.first = MaskedConv2d(groups, 2 * h, 7, "A", groups)
        self.layers = nn.ModuleList(layer(2 * h, h, groups) for _ in range(num_layers))
        self.expand = nn.ModuleList(HorizontalConv(h, 2 * h, 1, "B", groups, gain=1 / num_layers) for _ in self.layers)
        self.hidden = HorizontalConv(2 * h, 2 * h, 1, "B", groups, gain=2)
        self.last = HorizontalConv(2 * h, groups * distribution.num_params, 1, "B", groups, gain=0.01)
        if num_classes is not None:
            self.class_bias = nn.Embedding(num_classes, num_layers * 4 * h)
            nn.init.zeros_(self.class_bias.weight)

    def _class_biases(self, y: Tensor | None) -> Sequence[Tensor | None]:
        """Return the bias of each layer's gates, ``(B, 4h)``, or None if the model is unconditional."""
        if self.num_classes is None:
            return [None] * len(self.layers)
        return self.class_bias(given(y)).chunk(len(self.layers), dim=1)

    def _predict(self, z: Tensor, apply: Apply) -> Tensor:
        """Map the last layer's features to parameters, for whole images or for one group at one position."""
        z = F.relu(apply(self.hidden, F.relu(z)))
        with own_precision(z, self.distribution.needs_float32):
            return apply(self.last, z.to(self.last.weight.dtype))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images in [0, 1] to each value's parameters given the values before, ``(B, num_params, C, H, W)``."""
        z = self.first((2 * x - 1).to(self.last.weight.dtype))  # (B, 2h, H, W)
        for layer, expand, class_bias in zip(self.layers, self.expand, self._class_biases(y), strict=True):
            z = z + expand(layer(z, class_bias))
        params = self._predict(z, _whole)  # (B, C * num_params, H, W)
        return params.unflatten(1, (self.shape[0], -1)).transpose(1, 2)

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Draw value by value; each costs one step of every layer, as the earlier states are kept."""
        groups, height, width = self.shape
        num_samples = len(draws.u)
        raster = RasterCache([self.first], num_samples, width)
        cache = StackCache((m for m in self.modules() if isinstance(m, HorizontalConv)), num_samples, width)
        memories = []
        for layer, class_bias in zip(self.layers, self._class_biases(y), strict=True):
            assert isinstance(layer, RecurrentLayer)
            memories.append(layer.memory(num_samples, width, class_bias))
        x = torch.empty_like(draws.u)
        for row in range(height):
            for memory in memories:
                memory.next_row()
            for column in range(width):
                for group in range(groups):
                    raster.move(column, group)
                    cache.move(column, group)
                    z = raster.read(self.first)  # (N, 2h / C)
                    for memory, expand in zip(memories, self.expand, strict=True):
                        z = z + cache(expand, memory.step(z, column, group, cache))
                    value = draws(self._predict(z, cache), group, row, column)
                    raster.write(self.first, (2 * value - 1).unsqueeze(1))
                    x[:, group, row, column] = value
            raster.next_row()
        return x
