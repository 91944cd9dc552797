"""The coupling networks of Glow and their convolutions, with normalizations and gains folded into the weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.layers.channel_maps import scales_and_biases, stacked
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
        if self.embedding is not None:
            h = h + self._of_class(y, h.dtype)
        h = self.middle(F.relu(h))
        if self.middle_norm is not None:
            h, _ = self.middle_norm(h)
        return self.last(F.relu(h))

    def _of_class(self, y: Tensor | None, dtype: torch.dtype) -> Tensor:
        assert self.embedding is not None
        return self.embedding(y)[:, :, None, None].to(dtype)

    def folded(self, h: Tensor, y: Tensor | None, convs: "FoldedNet") -> Tensor:
        """Compute the outputs by convolutions from :func:`folded_nets`, in their precision."""
        h = convs.first(h.to(convs.first.weight.dtype, memory_format=torch.channels_last))
        if self.embedding is not None:
            h = h + self._of_class(y, h.dtype)
        h = convs.middle(h.relu_())
        return convs.last(h.relu_())


@dataclass(frozen=True)
class FoldedConvolution:
    """A convolution that keeps the sides, with all that follows it in its weights and bias.

    Attributes:
        weight: weights ``(outputs, C, k, k)``.
        bias: biases ``(outputs,)``, or ``(1, outputs, H, W)`` if they depend on the place.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, h: Tensor) -> Tensor:
        if self.bias.ndim > 1:
            return F.conv2d(h, self.weight, padding="same").add_(self.bias)
        # In bfloat16 a product of matrices is faster, in float32 on CPUs oneDNN's convolution is.
        if self.weight.shape[2] == 1 and not (h.device.type == "cpu" and h.dtype == torch.float32):
            rows = h.permute(0, 2, 3, 1)
            out = torch.addmm(self.bias, rows.reshape(-1, rows.shape[3]), self.weight.flatten(1).t())
            return out.view(*rows.shape[:3], -1).permute(0, 3, 1, 2)
        return F.conv2d(h, self.weight, self.bias, padding="same")


@dataclass(frozen=True)
class FoldedNet:
    """The convolutions of a :class:`CouplingNet`, with the normalizations and gains that follow them."""

    first: FoldedConvolution
    middle: FoldedConvolution
    last: FoldedConvolution


def folded_nets(nets: Sequence[CouplingNet], size: tuple[int, int], dtype: torch.dtype) -> list[FoldedNet]:
    """Fold the normalizations and gains of networks of equal sizes into their convolutions, all networks at once.

    Args:
        nets: networks that differ in the values of their parameters only.
        size: sides of the maps that they read.
        dtype: precision to convolve in.
    """

    def normalized(convs: list[nn.Conv2d], norms: list[ActNorm | None]) -> list[FoldedConvolution]:
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
    return [FoldedNet(*convs) for convs in zip(*parts, strict=True)]


def _folded(
    convs: Sequence[nn.Conv2d], scale: Tensor | None, bias: Tensor, size: tuple[int, int], dtype: torch.dtype
) -> list[FoldedConvolution]:
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
    pairs = zip(weight.unbind(), bias.to(dtype).unbind(), strict=True)
    return [FoldedConvolution(weight, bias) for weight, bias in pairs]
