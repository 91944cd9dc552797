"""Minibatch standard deviation: Progressive Growing of GANs (arXiv:1710.10196), section 3."""

import torch
from torch import Tensor, nn


class MinibatchStd(nn.Module):
    """One more channel, of how much the examples of a group differ, so that D sees a G that has few things to show.

    Args:
        group: examples that are compared, or the next smaller number that divides the batch.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, h: Tensor) -> Tensor:
        """``(B, C, H, W)`` to ``(B, C + 1, H, W)``."""
        B, _, H, W = h.shape
        group = next(g for g in range(min(self.group, B), 0, -1) if B % g == 0)
        grouped = h.float().view(group, B // group, *h.shape[1:])
        # With a gradient where all are alike.
        std = (grouped.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
        channel = std.repeat(group).view(B, 1, 1, 1).expand(B, 1, H, W)
        return torch.cat([h, channel.to(h.dtype)], 1)
