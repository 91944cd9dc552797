"""Causal self-attention, with a cache of keys and values to generate one position at a time.

Attention Is All You Need, arXiv:1706.03762.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError


class KeyValueCache:
    """Keys and values of the positions seen so far by one attention layer, in memory reserved once.

    Args:
        max_length: positions to reserve memory for.
    """

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.length = 0
        self.keys = self.values = torch.empty(0)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of T new positions, ``(B, heads, T, head_dim)``; return those of all so far.

        Raises:
            ValueError: if more than ``max_length`` positions come.
        """
        start, end = self.length, self.length + k.shape[2]
        if end > self.max_length:  # writing to an empty slice would pass in silence
            raise ValueError(f"{end} positions for a cache of {self.max_length}")
        if start == 0:  # the first keys tell the batch, the device, and the precision under autocast
            B, heads, _, head_dim = k.shape
            self.keys = k.new_empty(B, heads, self.max_length, head_dim)
            self.values = torch.empty_like(self.keys)
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which position i looks at positions up to and including i.

    Args:
        width: of the features.
        num_heads: of ``width / num_heads`` dimensions each.
        dropout: on the attention weights, and on the output.

    Raises:
        InputError: if the heads do not share the width evenly.
    """

    def __init__(self, width: int, num_heads: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_heads < 1 or width < 1 or width % num_heads:
            raise InputError(
                f"width={width} does not split into num_heads={num_heads}: make it a multiple of the heads"
            )
        self.num_heads, self.head_dim = num_heads, width // num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.projection = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """``(B, T, width)`` to the same; with a cache, ``h`` are the T positions after those in it."""
        B, T, _ = h.shape
        heads = (t.view(B, T, self.num_heads, self.head_dim).transpose(1, 2) for t in self.qkv(h).chunk(3, dim=-1))
        q, k, v = heads  # each (B, heads, T, head_dim)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, heads, S, head_dim), S >= T positions so far
        S = k.shape[2]
        # is_causal aligns the first query with the first key, which is right only while nothing came before; one new
        # query sees everything; several after a past see it and each other up to themselves.
        mask = None if T in (1, S) else torch.ones(T, S, dtype=torch.bool, device=h.device).tril(S - T)
        dropout = self.dropout.p if self.training else 0.0
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=T == S)
        out = out.transpose(1, 2).reshape(B, T, -1)  # (B, heads, T, head_dim) -> (B, T, width)
        return self.dropout(self.projection(out))
