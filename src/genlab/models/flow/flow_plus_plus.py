"""Flow++: couplings by mixtures of logistics with attention, and dequantization by a flow of the same kind."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.logistic import log_sigmoid
from genlab.distributions.noise import normal
from genlab.errors import InputError
from genlab.layers.coupling import squeeze, unsqueeze
from genlab.layers.fitting import fitted, initialize_from_data
from genlab.layers.gated_resnet import GatedResnet
from genlab.layers.invertible import FullConvolution, PlaceNorm
from genlab.layers.same_conv import SameConv2d
from genlab.layers.transforms import BoundedAffine, LogisticMixture
from genlab.models.flow.image_flow import ImageFlow, eighth_of_a_bin

# Number of training images that initialize the model, as in the authors' code.
INITIAL_IMAGES = 128

# Two parts of the features, one of which gives the parameters of the other one's map.
Halves = tuple[Tensor, Tensor]


@dataclass(frozen=True)
class NetOptions:
    """Options of the coupling networks; ``FlowPlusPlus`` says what they mean."""

    width: int
    num_blocks: int
    num_heads: int
    num_components: int
    dropout: float = 0.0
    num_classes: int | None = None
    context: int = 0  # channels of the features of an image that condition the map; 0 for none


def _apply(conv: nn.Module, h: Tensor) -> Tensor:
    return conv(h)


class ChannelNorm(nn.LayerNorm):
    """Layer normalization over the channels of ``(B, C, H, W)``."""

    def forward(self, h: Tensor) -> Tensor:
        return super().forward(h.movedim(1, -1)).movedim(-1, 1)


class GatedAttention(nn.Module):
    """Attention of all places to all places, added through a gate; it keeps ``(B, width, H, W)``.

    Args:
        width: number of channels, a multiple of ``num_heads``.
        num_heads: number of heads.
        dropout: dropout probability before the gate.
    """

    def __init__(self, width: int, num_heads: int, dropout: float) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.ask = SameConv2d(width, 3 * width, 1)
        self.dropout = nn.Dropout(dropout)
        self.answer = SameConv2d(width, 2 * width, 1, gain=0.1)
        self.answer.first_deviation = 0.1

    def forward(self, h: Tensor, positions: Tensor) -> Tensor:
        q, k, v = self.ask(h + positions).flatten(2).unflatten(1, (3, self.num_heads, -1)).transpose(3, 4).unbind(1)
        found = F.scaled_dot_product_attention(q, k, v)  # (B, heads, HW, width / heads)
        found = self.dropout(found.transpose(2, 3).reshape(h.shape))
        a, b = self.answer(found).chunk(2, 1)
        return h + a * torch.sigmoid(b)


class AttentiveNet(nn.Module):
    """The network of a coupling: gated convolutions and attention, ``(B, C, H, W)`` to ``(B, outputs, H, W)``.

    Args:
        shape: shape of what it reads, ``(C, H, W)``.
        outputs: number of channels of its output.
        options: width, number of blocks, heads, and so on.
    """

    def __init__(self, shape: tuple[int, int, int], outputs: int, options: NetOptions) -> None:
        super().__init__()
        C, H, W = shape
        width = options.width
        around, alone = partial(SameConv2d, kernel_size=3), partial(SameConv2d, kernel_size=1)
        self.positions = nn.Parameter(0.01 * torch.randn(width, H, W))
        self.first = around(C, width)
        self.convs = nn.ModuleList(
            GatedResnet(width, around, options.context, options.dropout, alone) for _ in range(options.num_blocks)
        )
        self.attentions = nn.ModuleList(
            GatedAttention(width, options.num_heads, options.dropout) for _ in range(options.num_blocks)
        )
        self.norms = nn.ModuleList(ChannelNorm(width) for _ in range(2 * options.num_blocks))
        self.class_bias: nn.Embedding | None = None
        if options.num_classes is not None:
            self.class_bias = nn.Embedding(options.num_classes, options.num_blocks * 2 * width)
            nn.init.zeros_(self.class_bias.weight)
        self.last = around(width, outputs, gain=0.1)
        self.last.first_deviation = 0.1

    def forward(self, h: Tensor, context: Tensor | None, y: Tensor | None) -> Tensor:
        h = self.first(h.to(self.first.weight.dtype))
        biases: Sequence[Tensor | None] = [None] * len(self.convs)
        if self.class_bias is not None:
            biases = self.class_bias(y)[:, :, None, None].chunk(len(self.convs), 1)
        norms = list(self.norms)
        blocks = zip(self.convs, norms[::2], self.attentions, norms[1::2], biases, strict=True)
        for conv, first_norm, attention, second_norm, bias in blocks:
            h = first_norm(conv(h, context, bias, _apply))
            h = second_norm(attention(h, self.positions))
        return self.last(h)


class Split(nn.Module):
    """A split of features ``(B, C, H, W)`` into two parts: every second column, or the halves of the channels.

    The authors' code splits the columns, where the paper says checkerboard. With an odd number of columns, the first
    part has one more. A single column is split into every second row, and a single place into its channels.

    Args:
        shape: shape of the features.
        columns: whether columns are split, and not channels.
    """

    order: Tensor
    places: Tensor

    def __init__(self, shape: tuple[int, int, int], columns: bool) -> None:
        super().__init__()
        _, H, W = shape
        self.axis = (3 if W > 1 else 2 if H > 1 else 1) if columns else 1
        size = shape[self.axis - 1]
        order = torch.arange(size)
        if self.axis > 1:
            order = torch.cat([order[::2], order[1::2]])
        self.sizes = (size - size // 2, size // 2)
        self.register_buffer("order", order, persistent=False)
        self.register_buffer("places", order.argsort(), persistent=False)
        self.shapes = tuple(self._resized(shape, part) for part in self.sizes)

    def _resized(self, shape: tuple[int, int, int], size: int) -> tuple[int, int, int]:
        sides = list(shape)
        sides[self.axis - 1] = size
        return cast(tuple[int, int, int], tuple(sides))

    def forward(self, h: Tensor) -> Halves:
        first, second = h.index_select(self.axis, self.order).split(self.sizes, self.axis)
        return first, second

    def inverse(self, halves: Halves) -> Tensor:
        return torch.cat(halves, self.axis).index_select(self.axis, self.places)


class Coupling(nn.Module):
    """Normalizations, 1x1 convolutions and a coupling of two parts, of which the first gives the map of the second.

    Args:
        shapes: shapes of the two parts; they may differ in one side.
        options: options of the network.
    """

    def __init__(self, shapes: Sequence[tuple[int, int, int]], options: NetOptions) -> None:
        super().__init__()
        self.transform = LogisticMixture(options.num_components, BoundedAffine())
        self.norms = nn.ModuleList(PlaceNorm(shape) for shape in shapes)
        self.mixes = nn.ModuleList(FullConvolution(shape[0], 0.001) for shape in shapes)
        (first, *sides), (self.channels, *self.sides) = shapes
        # The network sees the larger of the two sides, so that neither part lacks its neighbours.
        self.larger = [max(pair) for pair in zip(sides, self.sides, strict=True)]
        outputs = self.transform.num_params * self.channels
        self.net = AttentiveNet((first, self.larger[0], self.larger[1]), outputs, options)

    def _params(self, first: Tensor, context: Tensor | None, y: Tensor | None) -> Tensor:
        missing = [large - small for large, small in zip(self.larger, first.shape[2:], strict=True)]
        params = self.net(F.pad(first, [0, missing[1], 0, missing[0]]), context, y)
        return params[..., : self.sides[0], : self.sides[1]].unflatten(1, (self.transform.num_params, self.channels))

    def forward(self, halves: Halves, context: Tensor | None, y: Tensor | None) -> tuple[Halves, Tensor]:
        """Return the mapped parts and the log-determinant in nats, ``(B,)``."""
        mapped, log_det = [], halves[0].new_zeros(())
        for h, norm, mix in zip(halves, self.norms, self.mixes, strict=True):
            h, of_norm = norm(h)
            h, of_mix = mix(h)
            mapped.append(h)
            log_det = log_det + of_norm + of_mix
        first, second = mapped
        second, log_slope = self.transform.forward(second, self._params(first, context, y))
        return (first, second), log_det + log_slope.flatten(1).sum(1)

    def inverse(self, halves: Halves, context: Tensor | None, y: Tensor | None) -> Halves:
        first, second = halves
        second = self.transform.inverse(second, self._params(first, context, y))
        first, second = (
            cast(PlaceNorm, norm).inverse(cast(FullConvolution, mix).inverse(h))
            for h, norm, mix in zip((first, second), self.norms, self.mixes, strict=True)
        )
        return first, second


class Stage(nn.Module):
    """Couplings of the parts of one split, whose roles alternate.

    Args:
        shape: shape of the features, ``(C, H, W)``.
        columns: whether columns are split, and not channels.
        num_couplings: number of couplings.
        options: options of their networks.
    """

    def __init__(self, shape: tuple[int, int, int], columns: bool, num_couplings: int, options: NetOptions) -> None:
        super().__init__()
        self.split = Split(shape, columns)
        shapes = self.split.shapes
        self.couplings = nn.ModuleList(
            Coupling(shapes if i % 2 == 0 else shapes[::-1], options) for i in range(num_couplings)
        )

    def forward(self, h: Tensor, context: Tensor | None = None, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the mapped features ``(B, C, H, W)`` and the log-determinant in nats, ``(B,)``."""
        halves, log_det = self.split(h), h.new_zeros(len(h))
        for coupling in self.couplings:
            halves, d = coupling(halves, context, y)
            halves, log_det = halves[::-1], log_det + d
        return self.split.inverse(halves if len(self.couplings) % 2 == 0 else halves[::-1]), log_det

    def inverse(self, h: Tensor, context: Tensor | None = None, y: Tensor | None = None) -> Tensor:
        halves = self.split(h)
        halves = halves if len(self.couplings) % 2 == 0 else halves[::-1]
        for coupling in reversed(cast(list[Coupling], list(self.couplings))):
            halves = coupling.inverse(halves[::-1], context, y)
        return self.split.inverse(halves)


class MixtureDequantization(nn.Module):
    """The dequantization noise of Flow++, by couplings like those of the model: section 3.1 of the paper.

    The noise is ``u = sigmoid(f(eps; x))``, where ``f`` maps normal noise ``eps`` by couplings whose networks see
    features of the image ``x``. Its density ``q(u | x)`` follows by the change of variables. The bound on the
    log-likelihood is ``E_q[log p(x + u) - log q(u | x)]``.

    Args:
        shape: image shape ``(C, H, W)``.
        width: channels of the coupling networks.
        num_couplings: number of couplings.
        num_blocks: number of blocks in a coupling network.
        num_heads: number of heads of the attention.
        num_components: number of logistics in the mixtures.
        context: channels of the features of the image.
        dropout: dropout probability.

    Raises:
        InputError: if an option is out of its range.
    """

    NUM_CONTEXT_BLOCKS = 3

    def __init__(
        self,
        shape: tuple[int, ...],
        width: int = 32,
        num_couplings: int = 4,
        num_blocks: int = 1,
        num_heads: int = 1,
        num_components: int = 8,
        context: int = 16,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(shape) != 3 or math.prod(shape) < 2:
            raise InputError(f"shape {tuple(shape)}: expected images (C, H, W) of at least two values")
        _check_options(
            width, num_blocks, num_heads, num_components, {"num_couplings": num_couplings, "context": context}
        )
        C, H, W = shape
        options = NetOptions(width, num_blocks, num_heads, num_components, dropout, None, context)
        self.stage = Stage((C, H, W), True, num_couplings, options)
        around = partial(SameConv2d, kernel_size=3)
        first, second = self.stage.split.shapes
        self.sides = first[1:]
        self.first = around(first[0] + second[0], context)
        self.blocks = nn.ModuleList(GatedResnet(context, around, 0, dropout) for _ in range(self.NUM_CONTEXT_BLOCKS))

    def _context(self, x: Tensor) -> Tensor:
        """Compute features of images, ``(B, context, H, W)`` with the sides of the first part of the split."""
        first, second = self.stage.split((x - 0.5).to(self.first.weight.dtype))
        missing = [a - b for a, b in zip(first.shape[2:], second.shape[2:], strict=True)]
        h = self.first(torch.cat([first, F.pad(second, [0, missing[1], 0, missing[0]])], 1))
        for block in self.blocks:
            h = block(h, None, None, _apply)
        return h

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Draw ``u`` in (0, 1) for images, both ``(B, C, H, W)``; return it and ``log q(u | x)`` in nats, ``(B,)``."""
        return self.from_noise(normal(x.shape, None, x.device).to(torch.promote_types(x.dtype, torch.float32)), x)

    def from_noise(self, eps: Tensor, x: Tensor) -> tuple[Tensor, Tensor]:
        """Map normal noise ``eps`` to ``u``, both ``(B, C, H, W)``, and ``log q(u | x)`` in nats, ``(B,)``."""
        v, log_det = self.stage(eps, self._context(x))
        log_eps = -0.5 * (eps.square() + math.log(2 * math.pi)).flatten(1).sum(1)
        log_slope = (log_sigmoid(v) + log_sigmoid(-v)).flatten(1).sum(1)  # log-derivative of the sigmoid
        return torch.sigmoid(v), log_eps - log_det - log_slope


class FlowPlusPlus(ImageFlow):
    """Flow++: Improving Flow-Based Generative Models with Variational Dequantization (arXiv:1902.00275).

    Couplings of every second column, then, after a squeeze, couplings of the halves of the channels and again of every
    second column. The parameters of a coupling are those of a mixture of logistics, whose distribution function is
    followed by a logit and an affine map; they come from a network of gated convolutions and attention to all places.
    Nothing is split off on the way: all latents belong to one N(0, I).

    An image that cannot be squeezed, because a side is odd or below 4, has only the first couplings.

    The likelihood and the transforms are computed in at least float32, whatever the precision of the coupling networks.
    The scales of a mixture lie between e^-3 and e^3, where the authors' code has only a lower limit of e^-7, so that
    the map can be inverted in float32. What the network says about means is added to places from -1 to 1.

    With ``alpha=0.05``, ``width=96``, ``num_blocks=10``, ``num_heads=4`` and ``num_components=32``, and with
    :class:`MixtureDequantization` of the same width, heads and components, two blocks and a context of 32, the model is
    the authors' for CIFAR-10 (github.com/aravindsrinivas/flowpp), to the number of its parameters.

    Args:
        shape: image shape ``(C, H, W)``.
        num_classes: number of classes, which shift the features of the coupling networks; None for an unconditional
            model.
        levels: number of grey levels of the data.
        alpha: margin that keeps the logit's argument away from 0 and 1, above 0 and below 0.5; None for an eighth of a
            bin, ``1 / (8 levels)``.
        dequantization: module that draws the dequantization noise, see ``ImageFlow``; None for uniform noise.
        width: channels of the coupling networks.
        num_blocks: number of blocks in a coupling network, each a gated convolution and an attention.
        num_heads: number of heads of the attention.
        num_components: number of logistics in the mixtures.
        couplings: numbers of couplings of the columns, of the channels, and of the columns after the squeeze.
        dropout: dropout probability in the coupling networks.

    Raises:
        InputError: if the shape is not an image's or is a single value, or an option is out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int | None = None,
        levels: int = 256,
        alpha: float | None = None,
        dequantization: nn.Module | None = None,
        width: int = 32,
        num_blocks: int = 1,
        num_heads: int = 1,
        num_components: int = 8,
        couplings: Sequence[int] = (4, 2, 3),
        dropout: float = 0.0,
    ) -> None:
        super().__init__(
            shape, num_classes, levels, eighth_of_a_bin(levels) if alpha is None else alpha, dequantization
        )
        _check_options(width, num_blocks, num_heads, num_components, {})
        if len(couplings) != 3 or min(couplings) < 1:
            raise InputError(f"couplings={list(couplings)}: expected three numbers, each at least 1")
        options = NetOptions(width, num_blocks, num_heads, num_components, dropout, num_classes)
        C, H, W = shape
        self.fine = Stage((C, H, W), True, couplings[0], options)
        self.coarse = nn.ModuleList()
        self.top_shape = (C, H, W)
        if H % 2 == W % 2 == 0 and min(H, W) >= 4:
            self.top_shape = (4 * C, H // 2, W // 2)
            self.coarse = nn.ModuleList(
                Stage(self.top_shape, columns, num, options)
                for columns, num in ((False, couplings[1]), (True, couplings[2]))
            )

    def transform(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        self._check(y)
        h, log_det = self.fine(h, None, y)
        if len(self.coarse):
            h = squeeze(h)
            for stage in self.coarse:
                h, d = stage(h, None, y)
                log_det = log_det + d
        return h.flatten(1), log_det

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        self._check(y)
        h = z.unflatten(1, self.top_shape)
        if len(self.coarse):
            for stage in reversed(cast(list[Stage], list(self.coarse))):
                h = stage.inverse(h, None, y)
            h = unsqueeze(h)
        return self.fine.inverse(h, None, y)

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Initialize normalizations and convolutions in sequence, each from what those before it make of the data."""
        few = x[:INITIAL_IMAGES], None if y is None else y[:INITIAL_IMAGES]
        training = self.training
        self.eval()  # without dropout
        with fitted([module for module in self.modules() if isinstance(module, PlaceNorm)]):
            initialize_from_data(self, lambda: self.log_prob(*few))
        self.train(training)


def _check_options(width: int, num_blocks: int, num_heads: int, num_components: int, others: Mapping[str, int]) -> None:
    numbers = {"width": width, "num_blocks": num_blocks, "num_heads": num_heads, "num_components": num_components}
    for name, number in {**numbers, **others}.items():
        if number < 1:
            raise InputError(f"{name}={number}: expected at least 1")
    if width % num_heads:
        raise InputError(f"width={width} does not split into num_heads={num_heads}: make it a multiple of the heads")
