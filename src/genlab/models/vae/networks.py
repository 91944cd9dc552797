"""Encoders and decoders of VAEs, for images of any shape.

A config gives a model a :class:`Networks` object, and the model asks it for an encoder and a decoder of the sizes that
it needs. An encoder maps images ``(B, C, H, W)`` in [0, 1] to ``(B, num_outputs)``, a decoder maps latents
``(B, num_inputs)`` to ``(B, num_outputs, H, W)``; both see the classes of a conditional model.
"""

import itertools
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.resampling import resolutions, widths
from genlab.models.adversarial import given

Shape = tuple[int, int, int]
Activation = Literal["silu", "relu", "tanh"]
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"silu": nn.SiLU, "relu": nn.ReLU, "tanh": nn.Tanh}


class Encoder(nn.Module):
    """A network that maps images ``(B, C, H, W)`` and their classes to ``(B, num_outputs)``.

    Attributes:
        last: layer that gives the outputs.
    """

    last: nn.Linear | nn.Conv2d

    def initialize(self, x: Tensor) -> None:
        """Initialize what depends on the data from training images ``(N, C, H, W)``, before the first step."""


class Decoder(nn.Module):
    """A network that maps latents ``(B, num_inputs)`` and classes to ``(B, num_outputs, H, W)``: ``last(body(z, y))``.

    Args:
        num_classes: number of classes; None for an unconditional model.
        precise: whether the last layer computes in the precision of its weights (float32) under autocast too.
    """

    body: nn.Module
    last: nn.Linear | nn.Conv2d

    def __init__(self, num_classes: int | None, precise: bool) -> None:
        super().__init__()
        self.num_classes, self.precise = num_classes, precise

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.body(with_class(z, y, self.num_classes))
        if not self.precise:
            return self.last(h)
        with torch.autocast(h.device.type, enabled=False):
            return self.last(h.to(self.last.weight.dtype))


class Networks(ABC):
    """A builder of encoders and decoders."""

    def latent_shape(self, shape: Shape) -> Shape | None:
        """Give the grid ``(C, h, w)`` that the latents of images form; None if they are a vector of any length."""
        return None

    @abstractmethod
    def encoder(self, shape: Shape, num_outputs: int, num_classes: int | None = None) -> Encoder: ...

    @abstractmethod
    def decoder(
        self, num_inputs: int, shape: Shape, num_outputs: int, num_classes: int | None = None, precise: bool = True
    ) -> Decoder: ...


def fit_bias(last: nn.Linear | nn.Conv2d, distribution: PixelDistribution, x: Tensor) -> None:
    """Set the bias of a decoder's last layer to the distribution of the values in ``x``, ``(N, C, H, W)``.

    A linear layer is fitted to the values of each position, a convolution to the values of each channel.
    """
    values = x if isinstance(last, nn.Linear) else x.transpose(0, 1).flatten(1).T  # (N, C, H, W) or (N H W, C)
    assert last.bias is not None
    with torch.no_grad():
        last.bias.copy_(distribution.fit(values).flatten())


def with_class(h: Tensor, y: Tensor | None, num_classes: int | None) -> Tensor:
    """Append one-hot classes to features ``(B, D)``, or one plane per class to features ``(B, C, H, W)``.

    If ``num_classes`` is None, the features are returned as they are.
    """
    if num_classes is None:
        return h
    one_hot = F.one_hot(given(y), num_classes).to(h)
    if h.ndim == 4:
        one_hot = one_hot[:, :, None, None].expand(-1, -1, *h.shape[2:])
    return torch.cat([h, one_hot], 1)


# ---------------------------------------------------------------------------------------------------------------------
# Fully connected
# ---------------------------------------------------------------------------------------------------------------------


class FullyConnected(Networks):
    """Fully connected networks of any depth, as in Auto-Encoding Variational Bayes (arXiv:1312.6114).

    Args:
        hidden: widths of the encoder's hidden layers, empty for a linear encoder; the decoder mirrors them.
        activation: activation between layers; with tanh, weights have Glorot's initialization, as in arXiv:1509.00519.
        center: whether the mean of the training images is subtracted from the encoder's input, instead of scaling it to
            [-1, 1]. A background of -1 saturates tanh units with Glorot's initialization.

    Raises:
        InputError: if a layer has no units.
    """

    def __init__(
        self, hidden: tuple[int, ...] = (512, 512), activation: Activation = "silu", center: bool = False
    ) -> None:
        if min(hidden, default=1) < 1:
            raise InputError(f"hidden={list(hidden)}: every layer needs units")
        self.hidden, self.activation, self.center = tuple(hidden), ACTIVATIONS[activation], center

    def encoder(self, shape: Shape, num_outputs: int, num_classes: int | None = None) -> Encoder:
        C, H, W = shape
        sizes = [C * H * W, *self.hidden, num_outputs]
        return _FullyConnectedEncoder(sizes, self.activation, num_classes, self.center)

    def decoder(
        self, num_inputs: int, shape: Shape, num_outputs: int, num_classes: int | None = None, precise: bool = True
    ) -> Decoder:
        sizes, size = [num_inputs, *reversed(self.hidden)], (num_outputs, *shape[1:])
        return _FullyConnectedDecoder(sizes, size, self.activation, num_classes, precise)


class _FullyConnectedEncoder(Encoder):
    mean: Tensor | None

    def __init__(
        self, sizes: Sequence[int], activation: Callable[[], nn.Module], num_classes: int | None, center: bool
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.register_buffer("mean", torch.zeros(sizes[0]) if center else None)
        sizes = [sizes[0] + (num_classes or 0), *sizes[1:]]
        self.body = _stack(sizes[:-1], activation)
        self.last = _linear(sizes[-2], sizes[-1], activation)

    def initialize(self, x: Tensor) -> None:
        if self.mean is not None:
            self.mean.copy_(x.flatten(1).mean(0))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        x = x.flatten(1)
        h = 2 * x - 1 if self.mean is None else x - self.mean
        return self.last(self.body(with_class(h, y, self.num_classes)))


class _FullyConnectedDecoder(Decoder):
    def __init__(
        self,
        sizes: Sequence[int],
        size: Shape,
        activation: Callable[[], nn.Module],
        num_classes: int | None,
        precise: bool,
    ) -> None:
        super().__init__(num_classes, precise)
        self.size = size
        sizes = [sizes[0] + (num_classes or 0), *sizes[1:]]
        self.body = _stack(sizes, activation)
        self.last = _linear(sizes[-1], size[0] * size[1] * size[2], activation)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z, y).view(-1, *self.size)


def _stack(sizes: Sequence[int], activation: Callable[[], nn.Module]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [_linear(inputs, outputs, activation), activation()]
    return nn.Sequential(*layers)


def _linear(inputs: int, outputs: int, activation: Callable[[], nn.Module]) -> nn.Linear:
    layer = nn.Linear(inputs, outputs)
    if activation is nn.Tanh:
        nn.init.xavier_uniform_(layer.weight)
        nn.init.zeros_(layer.bias)
    return layer


# ---------------------------------------------------------------------------------------------------------------------
# Convolutional and residual
# ---------------------------------------------------------------------------------------------------------------------


class Convolutional(Networks):
    """Convolutional networks: one convolution for each halving of the sides, and one for each doubling.

    Args:
        channels: maximum number of channels.
        channel_base: maximum of channels times side, which leaves fewer channels to larger features; None for no limit.
        num_blocks: number of residual blocks at every size, with pre-activation and group normalization as in VD-VAE
            and EDM; 0 for plain convolutions.

    Raises:
        InputError: if there are no channels, or ``num_blocks`` is negative.
    """

    def __init__(self, channels: int = 64, channel_base: int | None = None, num_blocks: int = 0) -> None:
        if channels < 1 or num_blocks < 0:
            raise InputError(
                f"channels={channels}, num_blocks={num_blocks}: expected at least 1 channel and 0 or more blocks"
            )
        self.channels, self.channel_base, self.num_blocks = channels, channel_base, num_blocks

    def _widths(self, sizes: list[tuple[int, ...]]) -> list[int]:
        base = self.channels * max(max(size) for size in sizes) if self.channel_base is None else self.channel_base
        return widths(self.channels, base, sizes)

    def encoder(self, shape: Shape, num_outputs: int, num_classes: int | None = None) -> Encoder:
        sizes = resolutions(shape[1:])
        return _ConvolutionalEncoder(shape[0], sizes, self._widths(sizes), self.num_blocks, num_outputs, num_classes)

    def decoder(
        self, num_inputs: int, shape: Shape, num_outputs: int, num_classes: int | None = None, precise: bool = True
    ) -> Decoder:
        sizes = resolutions(shape[1:])
        channels = self._widths(sizes)
        return _ConvolutionalDecoder(num_inputs, sizes, channels, self.num_blocks, num_outputs, num_classes, precise)


class ResidualBlock(nn.Module):
    """A pre-activation block that keeps the shape: Identity Mappings in Deep Residual Networks (arXiv:1603.05027)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        groups = next(g for g in (8, 4, 2, 1) if channels % g == 0)
        self.norm1, self.norm2 = nn.GroupNorm(groups, channels), nn.GroupNorm(groups, channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)  # up to a bias, the block starts as the identity

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(h))))))


class _ConvolutionalEncoder(Encoder):
    """Convolutions from the largest of ``sizes`` to the smallest, and a linear layer to the outputs."""

    def __init__(
        self,
        in_channels: int,
        sizes: list[tuple[int, ...]],
        channels: list[int],
        num_blocks: int,
        num_outputs: int,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        self.num_classes = num_classes
        layers: list[nn.Module] = [nn.Conv2d(in_channels + (num_classes or 0), channels[-1], 3, padding=1)]
        for before, after in itertools.pairwise(reversed(channels)):
            layers += [ResidualBlock(before) for _ in range(num_blocks)]
            layers += [nn.SiLU(), nn.Conv2d(before, after, 3, stride=2, padding=1)]  # an odd side is rounded up
        layers += [ResidualBlock(channels[0]) for _ in range(num_blocks)]
        self.body = nn.Sequential(*layers, nn.SiLU(), nn.Flatten())
        self.last = nn.Linear(channels[0] * sizes[0][0] * sizes[0][1], num_outputs)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.last(self.body(with_class(2 * x - 1, y, self.num_classes)))


class _ConvolutionalDecoder(Decoder):
    """A linear layer to the smallest of ``sizes``, and convolutions from there to the largest."""

    def __init__(
        self,
        num_inputs: int,
        sizes: list[tuple[int, ...]],
        channels: list[int],
        num_blocks: int,
        num_outputs: int,
        num_classes: int | None,
        precise: bool,
    ) -> None:
        super().__init__(num_classes, precise)
        layers: list[nn.Module] = [
            nn.Linear(num_inputs + (num_classes or 0), channels[0] * sizes[0][0] * sizes[0][1]),
            nn.Unflatten(1, (channels[0], *sizes[0])),
        ]
        for (before, after), size in zip(itertools.pairwise(channels), sizes[1:], strict=True):
            layers += [ResidualBlock(before) for _ in range(num_blocks)]
            layers += [nn.SiLU(), Doubled(size), nn.Conv2d(before, after, 3, padding=1)]
        layers += [ResidualBlock(channels[-1]) for _ in range(num_blocks)]
        self.body = nn.Sequential(*layers, nn.SiLU())
        self.last = nn.Conv2d(channels[-1], num_outputs, 3, padding=1)


class Doubled(nn.Module):
    """Nearest-neighbour upsampling to twice the sides, cropped to ``size``."""

    def __init__(self, size: tuple[int, ...]) -> None:
        super().__init__()
        self.size = size

    def forward(self, h: Tensor) -> Tensor:
        return F.interpolate(h, scale_factor=2)[:, :, : self.size[0], : self.size[1]]
