"""Batch normalization whose gain and bias a condition gives: A Learned Representation for Artistic Style
(arXiv:1610.07629), in GANs since cGANs with Projection Discriminator (arXiv:1802.05637)."""

import torch
from torch import Tensor, nn


class ConditionalBatchNorm2d(nn.Module):
    """Normalize features ``(B, C, H, W)`` over a batch, then scale and shift each channel as a condition asks.

    Args:
        num_features: number of channels C.
        to_affine: network from the condition to ``(B, 2C)``, what is added to a gain of 1 and to a bias of 0.
    """

    def __init__(self, num_features: int, to_affine: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_features, affine=False)
        self.to_affine = to_affine

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        gain, bias = self.to_affine(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm(h)
        return torch.addcmul(bias.to(h.dtype), h, 1 + gain.to(h.dtype))
