"""The gated residual block of PixelCNN++ (arXiv:1701.05517)."""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genlab.errors import InputError
from genlab.layers.elu import FEW, concat_elu
from genlab.layers.same_conv import SameConv2d
from genlab.layers.shifted_conv import ShiftedConv2d

# Function that applies a convolution to whole images, or at one row or pixel of a ShiftedCache.
Apply = Callable[[Any, Tensor], Tensor]
Conv = ShiftedConv2d | SameConv2d


def gated_sum(x: Tensor, z: Tensor) -> Tensor:
    """Compute ``x + a sigmoid(b)`` for ``z`` of ``a`` and ``b``, ``(B, 2 channels, ...)``."""
    if x.device.type == "cpu" and x.dtype == z.dtype and torch.is_grad_enabled():
        return _GatedSum.apply(x, z)
    a, b = z.chunk(2, dim=1)
    return x + a * (torch.sigmoid(b) if b.numel() < FEW else b.clone().sigmoid_())


class _GatedSum(torch.autograd.Function):
    """:func:`gated_sum` with few operators; on CPUs, a sigmoid of a part of the channels in bfloat16 is slow."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, z: Tensor) -> Tensor:
        a, b = z.chunk(2, dim=1)
        gate = b.clone().sigmoid_()
        ctx.save_for_backward(z, gate)
        return (a * gate).add_(x)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor]:
        z, gate = ctx.saved_tensors
        if gate.is_contiguous(memory_format=torch.channels_last):  # operators on two memory formats are slow
            grad = grad.contiguous(memory_format=torch.channels_last)
        of_a = grad * gate
        of_b = (of_a * z[:, : gate.shape[1]]).mul_(1 - gate)
        return grad, torch.cat([of_a, of_b], 1)


class GatedResnet(nn.Module):
    """Residual block of two convolutions; the second is twice as wide, for a gate. It keeps ``(B, channels, H, W)``.

    The initial scale of the weights preserves the variance of the features. With the paper's weight normalization
    (:mod:`genlab.layers.weight_norm`), the outputs of the second convolution begin with a standard deviation of 0.1.

    Args:
        channels: number of channels.
        conv: function that builds a convolution from its numbers of input and output channels, and a ``gain``.
        beside: number of channels of other features, which a 1x1 convolution adds to the output of the first
            convolution; 0 for none.
        dropout: dropout probability between the convolutions.
        second: function that builds the second convolution; None for ``conv``.

    Raises:
        InputError: if ``dropout`` is not in [0, 1).
    """

    def __init__(
        self,
        channels: int,
        conv: Callable[..., Conv],
        beside: int = 0,
        dropout: float = 0.0,
        second: Callable[..., Conv] | None = None,
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise InputError(f"dropout={dropout}: expected a probability in [0, 1)")
        self.first = conv(2 * channels, channels, gain=1.0)
        self.beside = nn.Conv2d(2 * beside, channels, 1) if beside else None
        self.dropout = nn.Dropout(dropout)
        # A small gain, so that at initialization the sum over many blocks hardly grows.
        self.second = (second or conv)(2 * channels, 2 * channels, gain=0.1)
        self.second.first_deviation = 0.1

    def forward(self, x: Tensor, beside: Tensor | None, class_bias: Tensor | None, apply: Apply) -> Tensor:
        """Apply the block.

        Args:
            x: features, ``(B, channels, H, W)``.
            beside: other features, ``(B, C', H, W)`` with the number of channels given to the constructor; ``None`` for
                none.
            class_bias: bias of both halves of the gate, ``(B, 2 channels, 1, 1)``; ``None`` for none.
            apply: function that applies a convolution.
        """
        z = apply(self.first, concat_elu(x))
        if self.beside is not None:
            assert beside is not None
            z = z + self.beside(concat_elu(beside))
        z = apply(self.second, self.dropout(concat_elu(z)))
        if class_bias is not None:
            z = z + class_bias
        return gated_sum(x, z)
