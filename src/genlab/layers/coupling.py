"""Affine coupling with a mask, its masks, and the squeeze between scales (Real NVP, arXiv:1605.08803)."""

import torch
from torch import Tensor, nn


def checkerboard_mask(height: int, width: int, parity: int) -> Tensor:
    """1 where row + column has the ``parity`` 0 or 1, else 0: ``(1, height, width)``."""
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    return ((rows + columns) % 2 == parity).float()[None]


def channel_mask(channels: int, parity: int) -> Tensor:
    """1 on the first (parity 0) or the last (parity 1) half of the channels, else 0: ``(channels, 1, 1)``."""
    first = torch.arange(channels) < channels // 2
    return (first if parity == 0 else ~first).float()[:, None, None]


def squeeze(h: Tensor) -> Tensor:
    """Each 2x2 patch of pixels to channels, ``(B, C, H, W)`` to ``(B, 4C, H/2, W/2)``.

    The place in the patch varies slowest, so half of the channels is every second row of pixels, of every colour.
    """
    B, C, H, W = h.shape
    h = h.view(B, C, H // 2, 2, W // 2, 2)
    return h.permute(0, 3, 5, 1, 2, 4).reshape(B, 4 * C, H // 2, W // 2)


def unsqueeze(h: Tensor) -> Tensor:
    """The inverse of ``squeeze``."""
    B, C, H, W = h.shape
    h = h.view(B, 2, 2, C // 4, H, W)
    return h.permute(0, 3, 4, 1, 5, 2).reshape(B, C // 4, 2 * H, 2 * W)


class AffineCoupling(nn.Module):
    """``h_out = h exp(s) + t`` where the mask is 0, ``s`` and ``t`` functions of the rest, which stays as it is.

    ``s`` is the tanh of the network's output times a learned scale per channel. The mask's ones need not be half of
    the dimensions. ``s``, ``t`` and the log-determinant have the precision of ``h``, whatever the network runs in.

    Args:
        net: ``net(h, y)`` maps ``(B, C, H, W)`` and classes to ``(B, 2C, H, W)``.
        mask: broadcastable to ``(C, H, W)``, of zeros and ones.
        channels: C.
    """

    mask: Tensor

    def __init__(self, net: nn.Module, mask: Tensor, channels: int) -> None:
        super().__init__()
        self.net = net
        self.scale = nn.Parameter(torch.ones(channels, 1, 1))
        self.register_buffer("mask", mask, persistent=False)

    def _scale_shift(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        s, t = self.net(h * self.mask, y).to(h.dtype).chunk(2, dim=1)
        free = 1 - self.mask
        return free * self.scale * torch.tanh(s), free * t

    def forward(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """To ``h_out`` and the log-determinant in nats, ``(B,)``."""
        s, t = self._scale_shift(h, y)
        return h * torch.exp(s) + t, s.flatten(1).sum(1)

    def inverse(self, h: Tensor, y: Tensor | None = None) -> Tensor:
        s, t = self._scale_shift(h, y)
        return (h - t) * torch.exp(-s)
