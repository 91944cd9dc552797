"""Affine couplings, their masks, and the squeeze between scales.

Density estimation using Real NVP, arXiv:1605.08803.
"""

from collections.abc import Iterable
from typing import cast

import torch
from torch import Tensor, nn

from genlab.layers.running_norm import RunningNorm


def checkerboard_mask(height: int, width: int, parity: int) -> Tensor:
    """Make a mask ``(1, height, width)``: 1 where row + column is even (``parity`` 0) or odd (1), else 0."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return ((rows + columns) % 2 == parity).float()[None]


def channel_mask(channels: int, parity: int) -> Tensor:
    """Make a mask ``(channels, 1, 1)``: 1 on the first (``parity`` 0) or the last (1) half of the channels, else 0."""
    first = torch.arange(channels) < channels // 2
    return (first if parity == 0 else ~first).float()[:, None, None]


def squeeze(h: Tensor) -> Tensor:
    """Move each 2x2 patch of pixels to channels: ``(B, C, H, W)`` to ``(B, 4C, H/2, W/2)``.

    The place in the patch varies slowest: the first half of the channels holds every second row, in all colours. A
    channel mask therefore does not split the pixels in the same way as a checkerboard.
    """
    B, C, H, W = h.shape
    h = h.reshape(B, C, H // 2, 2, W // 2, 2)
    return h.permute(0, 3, 5, 1, 2, 4).reshape(B, 4 * C, H // 2, W // 2)


def unsqueeze(h: Tensor) -> Tensor:
    """Invert ``squeeze``: ``(B, C, H, W)`` to ``(B, C/4, 2H, 2W)``."""
    B, C, H, W = h.shape
    h = h.reshape(B, 2, 2, C // 4, H, W)
    return h.permute(0, 3, 4, 1, 5, 2).reshape(B, C // 4, 2 * H, 2 * W)


class AffineCoupling(nn.Module):
    """Affine coupling ``h -> h exp(s) + t`` where the mask is 0, with ``s`` and ``t`` computed from the rest.

    The rest is unchanged. ``s`` is a tanh times a learned scale per channel, as in section 4.1 of the paper. The result
    has the precision of ``h``, also if the network runs in another.

    Args:
        net: network; ``net(h, y)`` maps ``(B, C, H, W)`` and classes to ``(B, 2C, H, W)``: ``s`` before the tanh, and
            ``t``.
        mask: mask of zeros and ones, broadcastable to ``(C, H, W)``.
        channels: number of channels C.
    """

    mask: Tensor

    def __init__(self, net: nn.Module, mask: Tensor, channels: int) -> None:
        super().__init__()
        self.net = net
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.register_buffer("mask", mask, persistent=False)

    def _s_and_t(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        s, t = self.net(h * self.mask, y).to(h.dtype).chunk(2, dim=1)
        transformed = 1 - self.mask
        return transformed * self.scale * torch.tanh(s), transformed * t

    def forward(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Give the transformed ``(B, C, H, W)`` and the log-determinant in nats, ``(B,)``."""
        s, t = self._s_and_t(h, y)
        return h * torch.exp(s) + t, s.flatten(1).sum(1)

    def inverse(self, h: Tensor, y: Tensor | None = None) -> Tensor:
        s, t = self._s_and_t(h, y)
        return (h - t) * torch.exp(-s)


class Couplings(nn.ModuleList):
    """Composition of couplings, and of normalizations between them, which are applied one after the other."""

    def __init__(self, couplings: Iterable[AffineCoupling | RunningNorm]) -> None:
        super().__init__(couplings)

    def forward(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        log_det = h.new_zeros(len(h))
        for coupling in self:
            h, d = coupling(h, y)
            log_det = log_det + d
        return h, log_det

    def inverse(self, h: Tensor, y: Tensor | None = None) -> Tensor:
        for coupling in reversed(cast(list[AffineCoupling | RunningNorm], list(self))):
            h = coupling.inverse(h, y)
        return h
