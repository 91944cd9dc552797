"""Strided attention: Generating Long Sequences with Sparse Transformers (arXiv:1904.10509), section 4.2.

Layers alternate between two patterns: ``local``, the last ``stride`` positions, and ``column``, every ``stride``-th
position up to the current one. If the stride is the length of an image's row, two layers carry information from a
position to every later one, at the cost of L (stride + L / stride) pairs instead of L².
"""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Pattern = Literal["local", "column"]


def allowed(queries: Tensor, keys: Tensor, stride: int, pattern: Pattern) -> Tensor:
    """Tell which queries see which keys, bool ``(T, S)``, given their positions ``(T,)`` and ``(S,)``."""
    distance = queries.unsqueeze(1) - keys
    near = distance < stride if pattern == "local" else distance % stride == 0
    return (distance >= 0) & near


def attend(q: Tensor, k: Tensor, v: Tensor, stride: int, pattern: Pattern, dropout: float = 0.0) -> Tensor:
    """Attend from the last T of S positions; queries and result are ``(B, heads, T, head_dim)``.

    Args:
        q: queries, ``(B, heads, T, head_dim)``.
        k: keys, ``(B, heads, S, head_dim)``.
        v: values, ``(B, heads, S, head_dim)``.
        stride: stride of the pattern.
        pattern: ``"local"`` or ``"column"``.
        dropout: dropout probability of the attention weights.
    """
    T, S = q.shape[2], k.shape[2]
    if T == S:
        return (_local if pattern == "local" else _column)(q, k, v, stride, dropout)
    if T == 1:  # for one new position, select the keys that it sees instead of masking
        seen = slice(max(0, S - stride), S) if pattern == "local" else slice((S - 1) % stride, S, stride)
        return F.scaled_dot_product_attention(q, k[:, :, seen], v[:, :, seen], dropout_p=dropout)
    positions = torch.arange(S, device=q.device)
    mask = allowed(positions[S - T :], positions, stride, pattern)
    return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)


def _in_rows(t: Tensor, stride: int) -> Tensor:
    """Split ``(B, heads, T, d)`` into rows, ``(B, heads, rows, stride, d)``, with zeros after the end."""
    return F.pad(t, (0, 0, 0, -t.shape[2] % stride)).unflatten(2, (-1, stride))


def _local(q: Tensor, k: Tensor, v: Tensor, stride: int, dropout: float) -> Tensor:
    """Attend locally: each row of queries needs only its own row of keys and the one before."""
    T = q.shape[2]
    q, k, v = (_in_rows(t, stride) for t in (q, k, v))
    k, v = (torch.cat([F.pad(t, (0, 0, 0, 0, 1, 0))[:, :, :-1], t], dim=3) for t in (k, v))  # (..., 2 stride, d)
    row = torch.arange(stride, device=q.device)
    before = torch.arange(-stride, 0, device=q.device)
    mask = allowed(row, torch.cat([before, row]), stride, "local").repeat(q.shape[2], 1, 1)
    mask[0, :, :stride] = False  # there is no row before the first
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
    return out.flatten(2, 3)[:, :, :T]


def _column(q: Tensor, k: Tensor, v: Tensor, stride: int, dropout: float) -> Tensor:
    T = q.shape[2]
    q, k, v = (_in_rows(t, stride).transpose(2, 3) for t in (q, k, v))  # (B, heads, stride, rows, d)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True, dropout_p=dropout)
    return out.transpose(2, 3).flatten(2, 3)[:, :, :T]
