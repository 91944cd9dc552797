"""The coupling networks of Glow and their convolutions, with normalizations and gains folded into the weights."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genlab.layers.channel_maps import from_rows, rows_of, scales_and_biases, stacked
from genlab.layers.invertible import ActNorm


@dataclass(frozen=True)
class NetOptions:
    """Options of the coupling networks and of the convolutions that start as 0; ``Glow`` says what they mean."""

    width: int
    num_classes: int | None
    edge_channel: bool = False
    nets_normalized: bool = False
    log_factor: float | None = None
    init_std: float | None = None


class EdgeConvolution(nn.Conv2d):
    """A 3x3 convolution that keeps the sides, ``(B, C, H, W)`` to ``(B, outputs, H, W)``.

    With ``edge_channel`` it sees one channel more, which is 1 beyond the edges, where the others are 0, and 0 within: a
    feature can then tell an edge from black pixels. The input does not contain this channel.
    """

    def __init__(self, channels: int, outputs: int, edge_channel: bool, bias: bool = True) -> None:
        super().__init__(channels + edge_channel, outputs, 3, padding=1, bias=bias)
        self.edge_channel = edge_channel

    def forward(self, h: Tensor) -> Tensor:
        if not self.edge_channel:
            return super().forward(h)
        # The edge channel is the same for all examples, so its share is computed once.
        beyond = F.pad(h.new_zeros(1, 1, *h.shape[2:]), [1, 1, 1, 1], value=1.0)
        return F.conv2d(h, self.weight[:, :-1], self.bias, padding=1) + F.conv2d(beyond, self.weight[:, -1:])


class ZeroConvolution(EdgeConvolution):
    """A 3x3 convolution whose weights and biases start as 0.

    With ``log_factor``, the outputs have learned scales ``exp(log_factor log_gain)`` per channel, which start as 1.
    """

    def __init__(self, channels: int, outputs: int, options: NetOptions) -> None:
        super().__init__(channels, outputs, options.edge_channel)
        nn.init.zeros_(self.weight)
        assert self.bias is not None
        nn.init.zeros_(self.bias)
        self.log_factor = options.log_factor
        self.log_gain = None if options.log_factor is None else nn.Parameter(torch.zeros(outputs, 1, 1))

    def forward(self, h: Tensor) -> Tensor:
        h = super().forward(h)
        return h if self.log_gain is None or self.log_factor is None else h * (self.log_factor * self.log_gain).exp()


class CouplingNet(nn.Module):
    """The network of a coupling: 3x3, 1x1 and 3x3 convolutions, ``(B, C, H, W)`` to ``(B, outputs, H, W)``.

    A class adds a bias to the features. The last convolution, and so every output, is 0 at initialization.
    """

    def __init__(self, channels: int, outputs: int, options: NetOptions) -> None:
        super().__init__()
        width, normalized, num_classes = options.width, options.nets_normalized, options.num_classes
        self.first = EdgeConvolution(channels, width, options.edge_channel, bias=not normalized)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, width)
        self.middle = nn.Conv2d(width, width, 1, bias=not normalized)
        self.first_norm = ActNorm(width, options.log_factor) if normalized else None
        self.middle_norm = ActNorm(width, options.log_factor) if normalized else None
        self.last = ZeroConvolution(width, outputs, options)
        if options.init_std is not None:
            for conv in (self.first, self.middle):
                nn.init.normal_(conv.weight, std=options.init_std)
                if conv.bias is not None:
                    nn.init.zeros_(conv.bias)

    def forward(self, h: Tensor, y: Tensor | None) -> Tensor:
        """Compute the outputs layer by layer; while the normalizations are fitted, each starts from its input."""
        h = self.first(h.to(self.last.weight.dtype))
        if self.first_norm is not None:
            h, _ = self.first_norm(h)
        of_class = self.of_class(y, h.dtype)
        if of_class is not None:
            h = h + of_class
        h = self.middle(F.relu(h))
        if self.middle_norm is not None:
            h, _ = self.middle_norm(h)
        return self.last(F.relu(h))

    def folded(self, h: Tensor, y: Tensor | None, convs: "FoldedNet") -> Tensor:
        """Compute the outputs by convolutions from :func:`folded_nets`, in their precision."""
        h = h.to(convs[0].dtype, memory_format=torch.channels_last)
        if torch.compiler.is_compiling():
            return convolved(h, self.of_class(y, h.dtype), *convs)[0]
        return _Convolutions.apply(h, self.of_class(y, h.dtype), *convs)

    def of_class(self, y: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """Give what a class adds to the features before the first ReLU, ``(B, width, 1, 1)``; None without classes."""
        return None if self.embedding is None else self.embedding(y)[:, :, None, None].to(dtype)


# The weights of three convolutions, (outputs, C, k, k), each before its biases, (outputs,), or (1, outputs, H, W) if
# they depend on the place.
FoldedNet = tuple[Tensor, ...]


def folded_nets(nets: Sequence[CouplingNet], size: tuple[int, int], dtype: torch.dtype) -> list[FoldedNet]:
    """Fold the normalizations and gains of networks of equal sizes into their convolutions, all networks at once.

    Args:
        nets: networks that differ in the values of their parameters only.
        size: sides of the maps that they read.
        dtype: precision to convolve in.
    """

    def normalized(convs: list[nn.Conv2d], norms: list[ActNorm | None]) -> list[tuple[Tensor, Tensor]]:
        there = [norm for norm in norms if norm is not None]
        if not there:
            return _folded(convs, None, stacked(convs, "bias"), size, dtype)
        log_scale, bias = scales_and_biases(there)
        scale = log_scale.exp()
        return _folded(convs, scale, bias * scale, size, dtype)

    lasts = [net.last for net in nets]
    gain, bias = None, stacked(lasts, "bias")
    if lasts[0].log_factor is not None:
        gain = (lasts[0].log_factor * stacked(lasts, "log_gain").flatten(1)).exp()
        bias = bias * gain
    parts = (
        normalized([net.first for net in nets], [net.first_norm for net in nets]),
        normalized([net.middle for net in nets], [net.middle_norm for net in nets]),
        _folded(lasts, gain, bias, size, dtype),
    )
    return [(*first, *middle, *last) for first, middle, last in zip(*parts, strict=True)]


def _folded(
    convs: Sequence[nn.Conv2d], scale: Tensor | None, bias: Tensor, size: tuple[int, int], dtype: torch.dtype
) -> list[tuple[Tensor, Tensor]]:
    """Fold scales of the outputs, ``(convs, outputs)``, into convolutions without biases, and biases after them."""
    weight = stacked(convs, "weight")
    if scale is not None:
        weight = weight * scale[:, :, None, None, None]
    if isinstance(convs[0], EdgeConvolution) and convs[0].edge_channel:
        # What the edge channel adds depends on the place alone.
        beyond = F.pad(weight.new_zeros(1, 1, *size), [1, 1, 1, 1], value=1.0)
        seen = F.unfold(beyond, 3).mT.expand(len(convs), -1, -1)  # (convs, places, 9)
        added = torch.baddbmm(bias.unsqueeze(1), seen, weight[:, :, -1].flatten(2).mT)
        bias = added.view(len(convs), 1, *size, -1).permute(0, 1, 4, 2, 3)
        weight = weight[:, :, :-1]
    # To the channels-last memory format along with the precision, in one copy.
    weight = weight.movedim(2, 4).to(dtype, memory_format=torch.contiguous_format).movedim(4, 2)
    return list(zip(weight.unbind(), bias.to(dtype).unbind(), strict=True))


class _Convolutions(torch.autograd.Function):
    """The three convolutions of a network with ReLUs between them, with few operators in both directions."""

    @staticmethod
    def forward(ctx: Any, h: Tensor, of_class: Tensor | None, *convs: Tensor) -> Tensor:
        out, *features = convolved(h, of_class, *convs)
        ctx.save_for_backward(h, *features, *convs)
        ctx.has_classes = of_class is not None
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        return tuple(convolved_backward(grad, ctx.has_classes, *ctx.saved_tensors))


def convolved(h: Tensor, of_class: Tensor | None, *convs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Apply three convolutions with ReLUs between them.

    Args:
        h: channels-last features ``(B, C, H, W)``.
        of_class: what is added before the first ReLU, ``(B, width, 1, 1)``; None for nothing.
        *convs: weights and biases of the convolutions in turn.

    Returns:
        The outputs, and the features after each of the ReLUs.
    """
    first = _convolve(h, *convs[:2])
    if of_class is not None:
        first = first.add_(of_class)
    first = first.relu_()
    middle = _convolve(first, *convs[2:4]).relu_()
    return _convolve(middle, *convs[4:]), first, middle


def convolved_backward(
    grad: Tensor, has_classes: bool, h: Tensor, first: Tensor, middle: Tensor, *convs: Tensor
) -> list[Tensor | None]:
    """Give the gradients of all that :func:`convolved` was given, in its order, from that of its outputs."""
    threshold = torch.ops.aten.threshold_backward
    grad, *of_last = _backward(grad.contiguous(memory_format=torch.channels_last), middle, *convs[4:])
    grad, *of_middle = _backward(threshold(grad, middle, 0), first, *convs[2:4])
    grad = threshold(grad, first, 0)
    of_class = grad.sum((2, 3), keepdim=True) if has_classes else None
    grad, *of_first = _backward(grad, h, *convs[:2])
    return [grad, of_class, *of_first, *of_middle, *of_last]


def _is_product(weight: Tensor) -> bool:
    """Tell whether a convolution is a product of matrices, faster: not in float32 on CPUs, where oneDNN's is."""
    return weight.shape[2] == 1 and not (weight.device.type == "cpu" and weight.dtype == torch.float32)


def _convolve(h: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    if bias.ndim > 1:
        return F.conv2d(h, weight, padding=weight.shape[2] // 2).add_(bias)
    if _is_product(weight):
        return from_rows(torch.addmm(bias, rows_of(h), weight.flatten(1).t()), h)
    return F.conv2d(h, weight, bias, padding=weight.shape[2] // 2)


def _backward(grad: Tensor, h: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Give the gradients of what a convolution reads, of its weights and of its biases."""
    by_place = bias.ndim > 1
    if not by_place and _is_product(weight):
        rows = rows_of(grad)
        return from_rows(rows @ weight.flatten(1), h), (rows.t() @ rows_of(h)).view_as(weight), rows.sum(0)
    padding = [weight.shape[2] // 2] * 2
    needed = [True, True, not by_place]
    below, of_weight, of_bias = torch.ops.aten.convolution_backward(
        grad, h, weight, [len(weight)], [1, 1], padding, [1, 1], False, [0, 0], 1, needed
    )
    if by_place:  # summed as a matrix: over the first dimension of channels-last features it takes five times as long
        places = grad.permute(0, 2, 3, 1)
        of_bias = places.reshape(len(h), -1).sum(0).view_as(places[:1]).permute(0, 3, 1, 2)
    return below, of_weight, of_bias
