"""Self-attention over the positions of an image: Self-Attention Generative Adversarial Networks (arXiv:1805.08318)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class SelfAttention2d(nn.Module):
    """Residual attention ``h + gamma attention(h)`` with a learned ``gamma``, initially 0.

    Keys and values are max-pooled over 2x2 patches. The attention is written out, because fused attention has no second
    derivative, which a penalty on gradients needs.

    Args:
        channels: number of channels C of the features ``(B, C, H, W)``.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        narrow, half = max(1, channels // 8), max(1, channels // 2)
        self.query = nn.Conv2d(channels, narrow, 1, bias=False)
        self.key = nn.Conv2d(channels, narrow, 1, bias=False)
        self.value = nn.Conv2d(channels, half, 1, bias=False)
        self.projection = nn.Conv2d(half, channels, 1, bias=False)
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, h: Tensor) -> Tensor:
        q = self.query(h).flatten(2)  # (B, C / 8, H W)
        k, v = (F.max_pool2d(layer(h), 2).flatten(2) for layer in (self.key, self.value))  # (B, ..., H W / 4)
        weights = (q.transpose(1, 2) @ k).softmax(-1)  # (B, H W, H W / 4), not scaled, as in the paper
        attended = (v @ weights.transpose(1, 2).to(v.dtype)).view(len(h), -1, *h.shape[2:])
        return h + self.gamma.to(h.dtype) * self.projection(attended)
