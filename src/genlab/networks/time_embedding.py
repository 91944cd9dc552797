"""Embedding of times and classes, on which the networks of diffusion models depend."""

import math

import torch
from torch import Tensor, nn


class TimeEmbedding(nn.Module):
    """Network from times ``(B, num_times)`` and classes ``(B,)`` to one vector of features for each example.

    Sines and cosines of each time, as in section 3.5 of Attention Is All You Need (arXiv:1706.03762), pass through two
    layers; an embedding of the class is added.

    Args:
        width: number of features.
        num_times: number of times of an example.
        num_classes: number of classes; None for none.
        num_waves: number of sines and cosines of a time, together.
        scale: factor of the times before the sines, whose fastest has the frequency 1.
    """

    frequencies: Tensor

    def __init__(
        self,
        width: int,
        num_times: int = 1,
        num_classes: int | None = None,
        num_waves: int = 128,
        scale: float = 1000.0,
    ) -> None:
        super().__init__()
        half = num_waves // 2
        self.register_buffer("frequencies", scale * torch.exp(-math.log(10000) * torch.arange(half) / half), False)
        self.layers = nn.Sequential(
            nn.Linear(num_times * 2 * half, width),
            nn.SiLU(),
            nn.Linear(width, width),
        )
        self.classes = None if num_classes is None else nn.Embedding(num_classes, width)

    def forward(self, times: Tensor, y: Tensor | None) -> Tensor:
        angles = times.to(self.frequencies).unsqueeze(2) * self.frequencies  # (B, num_times, half)
        h = self.layers(torch.cat([angles.sin(), angles.cos()], 2).flatten(1))
        if self.classes is not None:
            assert y is not None
            h = h + self.classes(y)
        return h
