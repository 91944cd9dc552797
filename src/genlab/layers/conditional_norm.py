"""Batch normalization whose gain and bias depend on a condition.

A Learned Representation for Artistic Style (arXiv:1610.07629); used in GANs since cGANs with Projection Discriminator
(arXiv:1802.05637).
"""

import torch
from torch import Tensor, nn


class ConditionalBatchNorm2d(nn.Module):
    """Batch normalization of features ``(B, C, H, W)``, with a scale and a shift of each channel given by a condition.

    Args:
        num_features: number of channels C.
        to_affine: network from the condition to ``(B, 2C)``: the C gains minus 1, then the C biases.
    """

    def __init__(self, num_features: int, to_affine: nn.Module) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(num_features, affine=False)
        self.to_affine = to_affine

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        gain, bias = self.to_affine(condition)[:, :, None, None].chunk(2, dim=1)
        h = self.norm(h)
        return torch.addcmul(bias.to(h.dtype), h, 1 + gain.to(h.dtype))
