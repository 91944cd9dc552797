"""The gated residual block of PixelCNN++ (arXiv:1701.05517)."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.layers.shifted_conv import ShiftedConv2d

# How a convolution is applied: to whole images, or at one row or pixel of a ShiftedCache.
Apply = Callable[[ShiftedConv2d, Tensor], Tensor]


def concat_elu(x: Tensor) -> Tensor:
    """A non-linearity of both signs: ``(B, channels, ...)`` to ``(B, 2 channels, ...)``."""
    return F.elu(torch.cat([x, -x], dim=1))


class GatedResnet(nn.Module):
    """Two convolutions, the second twice as wide, for a gate: ``(B, channels, H, W)`` to the same.

    The paper's weight normalisation is left out; weights begin at a scale that keeps the variance of features.

    Args:
        conv: builds a convolution from its channels in and out, with a ``gain``.
        beside: channels of other features that are added to the first convolution by a 1x1 one; 0 for none.
        dropout: between the convolutions.

    Raises:
        InputError: ``dropout`` is not in [0, 1).
    """

    def __init__(
        self, channels: int, conv: Callable[..., ShiftedConv2d], beside: int = 0, dropout: float = 0.0
    ) -> None:
        super().__init__()
        if not 0 <= dropout < 1:
            raise InputError(f"dropout={dropout}: expected a probability in [0, 1)")
        self.first = conv(2 * channels, channels, gain=1.0)
        self.beside = nn.Conv2d(2 * beside, channels, 1) if beside else None
        self.dropout = nn.Dropout(dropout)
        # Small at first: the sum over many blocks hardly grows.
        self.second = conv(2 * channels, 2 * channels, gain=0.1)

    def forward(self, x: Tensor, beside: Tensor | None, class_bias: Tensor | None, apply: Apply) -> Tensor:
        """``class_bias`` is of both parts of the gate, ``(B, 2 channels, 1, 1)``."""
        z = apply(self.first, concat_elu(x))
        if self.beside is not None:
            assert beside is not None
            z = z + self.beside(concat_elu(beside))
        z = apply(self.second, self.dropout(concat_elu(z)))
        if class_bias is not None:
            z = z + class_bias
        a, b = z.chunk(2, dim=1)
        return x + a * torch.sigmoid(b)
