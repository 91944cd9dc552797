"""Encodings of positions in a sequence, which are added to features, or applied to queries and keys by rotation."""

import torch
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.machine.devices import precise


class LearnedPositions(nn.Module):
    """Learned vector for every position, which is added to its features.

    Args:
        max_length: number of positions.
        width: number of features.
    """

    def __init__(self, max_length: int, width: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(max_length, width)
        nn.init.normal_(self.embedding.weight, std=0.02)

    def forward(self, h: Tensor, start: int = 0) -> Tensor:
        """Add the vectors of the positions from ``start`` on to features ``(B, T, width)``."""
        return h + self.embedding.weight[start : start + h.shape[1]]


class SinusoidalPositions(nn.Module):
    """Sines and cosines of geometrically growing wavelengths: Attention Is All You Need (arXiv:1706.03762), 3.5.

    They are added to the features, scaled to the size of GPT-2's embeddings. At the scale of the paper they would
    dominate the token embeddings.

    Args:
        max_length: number of positions.
        width: number of features; even.

    Raises:
        InputError: if ``width`` is odd.
    """

    table: Tensor

    def __init__(self, max_length: int, width: int) -> None:
        super().__init__()
        if width % 2:
            raise InputError(f"width={width}: sinusoidal positions need an even width")
        angles = _angles(torch.arange(max_length), width, base=10000.0)  # (L, width / 2)
        table = torch.stack([angles.sin(), angles.cos()], -1).flatten(1)
        self.register_buffer("table", 0.02 * 2**0.5 * table, persistent=False)

    def forward(self, h: Tensor, start: int = 0) -> Tensor:
        """Add the vectors of the positions from ``start`` on to features ``(B, T, width)``."""
        return h + self.table[start : start + h.shape[1]].to(h.dtype)


class Rotary(nn.Module):
    """Rotation of pairs of dimensions by angles that grow with the position: RoFormer (arXiv:2104.09864).

    After the rotation, the positions enter the product of a query and a key only by their distance. Dimension i is
    paired with i + d / 2, as in GPT-NeoX and LLaMA.

    Args:
        max_length: number of positions.
        head_dim: number of dimensions d of a query or key; even.
        base: base of the wavelengths; the longest is a little below 2 pi times this number.

    Raises:
        InputError: if ``head_dim`` is odd.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, max_length: int, head_dim: int, base: float = 10000.0) -> None:
        super().__init__()
        if head_dim % 2:
            raise InputError(f"rotary positions need heads of an even number of dimensions, not {head_dim}")
        angles = _angles(torch.arange(max_length), head_dim, base)  # (L, d / 2)
        self.register_buffer("cos", angles.cos(), persistent=False)
        self.register_buffer("sin", angles.sin(), persistent=False)

    def forward(self, x: Tensor, start: int = 0) -> Tensor:
        """Rotate queries or keys ``(B, heads, T, d)`` at the positions from ``start`` on, in their own precision."""
        T = x.shape[2]
        cos, sin = self.cos[start : start + T].to(x.dtype), self.sin[start : start + T].to(x.dtype)
        x1, x2 = x.chunk(2, dim=-1)
        return torch.cat([x1 * cos - x2 * sin, x1 * sin + x2 * cos], dim=-1)


def _angles(positions: Tensor, dims: int, base: float) -> Tensor:
    """Give the angle of every position in every pair of dimensions, ``(T, dims / 2)``."""
    frequencies = base ** (-precise(torch.arange(0, dims, 2, device=positions.device)) / dims)
    return torch.outer(precise(positions), frequencies).float()
