"""Minibatch standard deviation: Progressive Growing of GANs (arXiv:1710.10196), section 3."""

import torch
from torch import Tensor, nn


class MinibatchStd(nn.Module):
    """Additional channel that shows how much the examples of a group differ, so that D can detect mode collapse.

    Args:
        group: number of examples to compare; if it does not divide the batch, the next smaller number that does.
    """

    def __init__(self, group: int = 4) -> None:
        super().__init__()
        self.group = group

    def forward(self, h: Tensor) -> Tensor:
        """Append the channel: ``(B, C, H, W)`` to ``(B, C + 1, H, W)``."""
        B, _, H, W = h.shape
        group = next(g for g in range(min(self.group, B), 0, -1) if B % g == 0)
        grouped = h.float().view(group, B // group, *h.shape[1:])
        # The small constant keeps the gradient finite if all examples are equal.
        std = (grouped.var(0, correction=0) + 1e-8).sqrt().mean((1, 2, 3))
        channel = std.repeat(group).view(B, 1, 1, 1).expand(B, 1, H, W)
        return torch.cat([h, channel.to(h.dtype)], 1)
