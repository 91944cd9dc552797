"""Fully connected networks of diffusion models of points."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.networks.time_embedding import TimeEmbedding


class TimeMLP(nn.Module):
    """Residual network from noisy points, times and classes to points: ``(B, D)`` to the same shape.

    Args:
        shape: shape of a point, ``(D,)``.
        num_times: number of times of a point.
        num_classes: number of classes; None for none.
        time_scale: factor of the times in their embedding.
        width: number of features.
        num_layers: number of residual layers.
        octaves: number of sines and cosines of each coordinate that the network sees besides it, with the frequencies
            1, 2, 4, ... radians: Fourier Features Let Networks Learn High Frequency Functions (arXiv:2006.10739).

    Raises:
        InputError: if the shape is not that of points, or an option is out of its range.
    """

    frequencies: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        num_times: int = 1,
        num_classes: int | None = None,
        time_scale: float = 1000.0,
        *,
        width: int = 128,
        num_layers: int = 3,
        octaves: int = 0,
    ) -> None:
        super().__init__()
        if len(shape) != 1:
            raise InputError(f"shape {tuple(shape)}: this network is for points (D,); use diffusion/networks=unet")
        if min(width, num_layers) < 1 or octaves < 0:
            raise InputError(
                f"width={width}, num_layers={num_layers}, octaves={octaves}: expected at least 1, 1 and 0 of each"
            )
        # Functions of the time need not be as fine as a thousandth, which would make the field rough.
        self.embedding = TimeEmbedding(width, num_times, num_classes, 64, time_scale / 50)
        self.register_buffer("frequencies", 2.0 ** torch.arange(octaves), persistent=False)
        self.first = nn.Linear((1 + 2 * octaves) * shape[0], width)
        self.conditions = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))
        self.layers = nn.ModuleList(nn.Linear(width, width) for _ in range(num_layers))
        self.last = nn.Linear(width, shape[0])
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor, times: Tensor, y: Tensor | None = None) -> Tensor:
        condition = F.silu(self.embedding(times, y))
        angles = (x.unsqueeze(2) * self.frequencies).flatten(1)
        h = self.first(torch.cat([x, angles.sin(), angles.cos()], 1))
        for layer, of_condition in zip(self.layers, self.conditions, strict=True):
            h = h + layer(F.silu(h + of_condition(condition)))
        return self.last(F.silu(h))
