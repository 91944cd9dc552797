"""Self-attention, causal or not, with a cache of keys and values for generation one position at a time.

Attention Is All You Need, arXiv:1706.03762.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.layers import sparse_attention
from genlab.layers.positions import Rotary


class KeyValueCache:
    """Keys and values of the positions that one attention layer has seen so far, in memory that is allocated once.

    Args:
        max_length: number of positions to allocate memory for.
    """

    def __init__(self, max_length: int) -> None:
        self.max_length = max_length
        self.length = 0
        self.keys = self.values = torch.empty(0)

    def append(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Store the keys and values of T new positions, ``(B, heads, T, head_dim)``; return those of all positions.

        Raises:
            ValueError: if there are more than ``max_length`` positions in total.
        """
        start, end = self.length, self.length + k.shape[2]
        if end > self.max_length:  # writing to an empty slice would raise no error
            raise ValueError(f"{end} positions for a cache of {self.max_length}")
        if start == 0:  # the first keys determine the batch size, the device, and the precision under autocast
            B, heads, _, head_dim = k.shape
            self.keys = k.new_empty(B, heads, self.max_length, head_dim)
            self.values = torch.empty_like(self.keys)
        self.keys[:, :, start:end] = k
        self.values[:, :, start:end] = v
        self.length = end
        return self.keys[:, :, :end], self.values[:, :, :end]


class BlockedCausalAttention(torch.autograd.Function):
    """Causal attention for CPUs in bfloat16: each block of queries is multiplied by the keys up to the block's end.

    With 784 to 3072 positions of 32 dimensions, on a CPU with AVX-512 BF16, it is 1.5 to 1.7 times as fast as PyTorch's
    kernel, which gains nothing from bfloat16 there. The attention weights of all blocks are kept for the backward pass,
    for each head about half of the square of the number of positions; where these are too many, the backward pass
    computes those of one block at a time again.
    """

    BLOCK = 112
    LONGEST = 1024  # positions up to which the attention weights are kept in any case
    KEPT = 2**27  # number of attention weights up to which longer sequences keep them: 256 MiB for a layer

    @classmethod
    def suits(cls, q: Tensor, k: Tensor, dropout: float) -> bool:
        """Tell whether this function can replace PyTorch's kernel for these queries and keys, and is faster."""
        return q.device.type == "cpu" and q.dtype == torch.bfloat16 and dropout == 0 and 1 < q.shape[2] == k.shape[2]

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend to earlier positions; queries, keys, values and the result are ``(B, heads, T, head_dim)``."""
        shape = q.shape
        q, k, v = (t.reshape(-1, *shape[2:]) for t in (q, k, v))  # (B heads, T, head_dim)
        blocks = _blocks(shape[2])
        num_weights = len(q) * sum((end - start) * end for start, end in blocks)
        keep = shape[2] <= BlockedCausalAttention.LONGEST or num_weights <= BlockedCausalAttention.KEPT
        out, kept = torch.empty_like(q), []
        for start, end in blocks:
            weights = _weights(q, k, start, end)
            out[:, start:end] = torch.bmm(weights, v[:, :end])
            if keep:
                kept.append(weights)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.shape = shape
        return out.view(shape)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, ...]:
        q, k, v, *kept = ctx.saved_tensors
        grad = grad.reshape(q.shape)
        grad_q = torch.empty_like(q)
        # Sums over blocks are in float32, as in PyTorch's own kernel.
        grad_k, grad_v = (torch.zeros_like(k, dtype=torch.float32) for _ in range(2))
        for i, (start, end) in enumerate(_blocks(q.shape[1])):
            p = kept[i] if kept else _weights(q, k, start, end)
            grad_out = grad[:, start:end]
            grad_v[:, :end] += torch.bmm(p.transpose(1, 2), grad_out)
            grad_p = torch.bmm(grad_out, v[:, :end].transpose(1, 2))
            grad_logits = torch._softmax_backward_data(grad_p, p, -1, p.dtype) / math.sqrt(q.shape[2])
            grad_q[:, start:end] = torch.bmm(grad_logits, k[:, :end])
            grad_k[:, :end] += torch.bmm(grad_logits.transpose(1, 2), q[:, start:end])
        return grad_q.view(ctx.shape), grad_k.to(k.dtype).view(ctx.shape), grad_v.to(v.dtype).view(ctx.shape)


def _weights(q: Tensor, k: Tensor, start: int, end: int) -> Tensor:
    """Compute the attention weights of a block of queries, ``(B heads, end - start, end)``."""
    scores = torch.bmm(q[:, start:end] / math.sqrt(q.shape[2]), k[:, :end].transpose(1, 2))
    later = torch.ones(end - start, end - start, dtype=torch.bool, device=q.device).triu(1)
    scores[:, :, start:].masked_fill_(later, -math.inf)
    return torch.softmax(scores, -1)


def _blocks(length: int) -> list[tuple[int, int]]:
    size = BlockedCausalAttention.BLOCK
    return [(start, min(length, start + size)) for start in range(0, length, size)]


class SelfAttention(nn.Module):
    """Multi-head attention in which position i sees positions up to and including i, or all positions.

    Args:
        width: number of features.
        num_heads: number of query heads, each of ``width / num_heads`` dimensions.
        dropout: dropout probability of the attention weights, and of the output.
        num_kv_heads: number of heads of keys and values, each shared by several query heads (grouped-query attention,
            arXiv:2305.13245); ``None`` for ``num_heads``.
        rotary: module that rotates queries and keys by their positions; ``None`` for no rotation.
        causal: whether a position sees only itself and earlier positions.
        pattern: sparse pattern of a causal layer, which then sees only a part of the earlier positions
            (:mod:`genlab.layers.sparse_attention`); ``None`` for all of them.
        stride: stride of the pattern.

    Raises:
        InputError: if ``width`` is no multiple of ``num_heads``, or ``num_heads`` no multiple of ``num_kv_heads``.
    """

    def __init__(
        self,
        width: int,
        num_heads: int,
        dropout: float = 0.0,
        num_kv_heads: int | None = None,
        rotary: Rotary | None = None,
        causal: bool = True,
        pattern: sparse_attention.Pattern | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        if num_heads < 1 or width < 1 or width % num_heads:
            raise InputError(
                f"width={width} does not split into num_heads={num_heads}: make it a multiple of the heads"
            )
        self.num_heads, self.head_dim = num_heads, width // num_heads
        self.num_kv_heads = num_heads if num_kv_heads is None else num_kv_heads
        if self.num_kv_heads < 1 or num_heads % self.num_kv_heads:
            raise InputError(f"num_heads={num_heads} do not share num_kv_heads={num_kv_heads} evenly")
        self.qkv = nn.Linear(width, (num_heads + 2 * self.num_kv_heads) * self.head_dim)
        self.projection = nn.Linear(width, width)
        self.dropout = nn.Dropout(dropout)
        self.rotary, self.causal = rotary, causal
        self.pattern, self.stride = pattern, stride

    def forward(self, h: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Map features ``(B, T, width)`` to the same shape; with a cache, ``h`` are the positions after those in it."""
        B, T, _ = h.shape
        heads = (self.num_heads, self.num_kv_heads, self.num_kv_heads)
        parts = self.qkv(h).split([n * self.head_dim for n in heads], dim=-1)
        q, k, v = (t.view(B, T, n, self.head_dim).transpose(1, 2) for t, n in zip(parts, heads, strict=True))
        if self.rotary is not None:
            start = 0 if cache is None else cache.length
            q, k = self.rotary(q, start), self.rotary(k, start)
        if cache is not None:
            k, v = cache.append(k, v)  # (B, kv_heads, S, head_dim), S >= T positions so far
        if self.num_kv_heads < self.num_heads:
            k, v = (t.repeat_interleave(self.num_heads // self.num_kv_heads, dim=1) for t in (k, v))
        dropout = self.dropout.p if self.training else 0.0
        out = self._attend(q, k, v, dropout).transpose(1, 2).reshape(B, T, -1)
        return self.dropout(self.projection(out))

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        """Give the attention output ``(B, heads, T, head_dim)`` at the last T of S positions."""
        if not self.causal:
            return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout)
        if self.pattern is not None:
            return sparse_attention.attend(q, k, v, self.stride, self.pattern, dropout)
        if BlockedCausalAttention.suits(q, k, dropout):
            with torch.autocast(q.device.type, enabled=False):
                return BlockedCausalAttention.apply(q, k, v)
        T, S = q.shape[2], k.shape[2]
        # is_causal aligns the first query with the first key, which is right only if nothing is cached (T == S). A
        # single new query sees everything. Several new queries need a mask: all of the past, and each other causally.
        mask = None if T in (1, S) else torch.ones(T, S, dtype=torch.bool, device=q.device).tril(S - T)
        return F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=bool(T == S))
