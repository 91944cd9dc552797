"""The transformer of GPT-2 and its successors: one backbone for text, pixels and codes.

Language Models are Unsupervised Multitask Learners (Radford et al., 2019); the options are those of LLaMA
(arXiv:2302.13971). It maps features to features; the embedding and the prediction belong to the model.
"""

import math
from collections.abc import Sequence
from typing import Literal, TypedDict

import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genlab.errors import InputError
from genlab.layers.attention import KeyValueCache, SelfAttention
from genlab.layers.positions import LearnedPositions, Rotary, SinusoidalPositions
from genlab.layers.sparse_attention import Pattern

Positions = Literal["learned", "sinusoidal", "rotary"]


class MLP(nn.Module):
    """Two linear layers with a GELU in between; the hidden layer is four times as wide.

    Args:
        width: number of features.
        dropout: dropout probability of the output.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 4 * width)
        self.projection = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        return self.dropout(self.projection(F.gelu(self.hidden(h))))


class SwiGLU(nn.Module):
    """Gated MLP: GLU Variants Improve Transformer (arXiv:2002.05202).

    Its hidden layer is two thirds as wide as that of :class:`MLP`, so that it has as many parameters.

    Args:
        width: number of features.
        dropout: dropout probability of the output.
    """

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        hidden = 8 * math.ceil(8 * width / 3 / 8)  # a multiple of 8, for which hardware is fast
        self.hidden = nn.Linear(width, 2 * hidden)
        self.projection = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        gate, value = self.hidden(h).chunk(2, dim=-1)
        return self.dropout(self.projection(F.silu(gate) * value))


class Options(TypedDict, total=False):
    """Arguments of :class:`Transformer` that models pass on."""

    dropout: float
    positions: Positions
    norm: Literal["layer", "rms"]
    mlp: Literal["gelu", "swiglu"]
    num_kv_heads: int | None
    stride: int | None
    checkpoint_gradients: bool


NORMS = {"layer": nn.LayerNorm, "rms": nn.RMSNorm}
MLPS = {"gelu": MLP, "swiglu": SwiGLU}


class Block(nn.Module):
    """Attention, which moves information between positions, then an MLP on each; both add to the residual stream.

    Args:
        norm: class of the normalization layers.
        attention: self-attention layer.
        mlp: class of the MLP.
        dropout: dropout probability of the MLP's output.
    """

    def __init__(self, norm: type[nn.Module], attention: SelfAttention, mlp: type[nn.Module], dropout: float) -> None:
        super().__init__()
        width = attention.projection.out_features
        self.norm1 = norm(width)
        self.attention = attention
        self.norm2 = norm(width)
        self.mlp = mlp(width, dropout)

    def forward(self, h: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        h = h + self.attention(self.norm1(h), cache)
        return h + self.mlp(self.norm2(h))


class Transformer(nn.Module):
    """Pre-norm transformer: the output at position i is a function of the inputs at positions up to and including i.

    Args:
        num_layers: number of blocks.
        num_heads: number of attention heads in a block.
        width: number of features in the residual stream.
        max_length: maximal length of a sequence.
        dropout: dropout probability of the input, the attention weights and the two additions of each block.
        positions: encoding of positions: ``"learned"`` or ``"sinusoidal"`` vectors that are added to the input, or
            ``"rotary"`` queries and keys.
        norm: kind of normalization: ``"layer"``, or ``"rms"`` (arXiv:1910.07467), which does not subtract the mean.
        mlp: kind of MLP, ``"gelu"`` or ``"swiglu"``.
        num_kv_heads: number of heads of keys and values, if several query heads share one; ``None`` for ``num_heads``.
        stride: stride of a Sparse Transformer (arXiv:1904.10509), whose layers alternately see the last ``stride``
            positions and every ``stride``-th position; for images, use the length of a row. ``None`` for layers that
            see all earlier positions.
        causal: whether a position sees only itself and earlier positions; ``False`` lets every position see all.
        checkpoint_gradients: whether to keep only each block's input for the backward pass and compute the rest again,
            which takes a third more time and a fraction of the memory.

    Raises:
        InputError: if a size is below 1, ``width`` is no multiple of ``num_heads``, ``dropout`` is outside [0, 1), a
            name is not one of the above, or ``stride`` is given without ``causal``.
    """

    def __init__(
        self,
        num_layers: int,
        num_heads: int,
        width: int,
        max_length: int,
        dropout: float = 0.0,
        positions: Positions = "learned",
        norm: Literal["layer", "rms"] = "layer",
        mlp: Literal["gelu", "swiglu"] = "gelu",
        num_kv_heads: int | None = None,
        stride: int | None = None,
        causal: bool = True,
        checkpoint_gradients: bool = False,
    ) -> None:
        super().__init__()
        if num_layers < 1:
            raise InputError(f"num_layers={num_layers}: a transformer needs at least 1 layer")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout={dropout}: expected a probability in [0, 1)")
        options = {"norm": (norm, NORMS), "mlp": (mlp, MLPS), "positions": (positions, Positions.__args__)}  # type: ignore[attr-defined]
        for name, (value, known) in options.items():
            if value not in known:
                raise InputError(f"{name}={value}: choose one of {', '.join(known)}")
        if stride is not None and (stride < 1 or not causal):
            raise InputError(f"stride={stride}: expected 1 or more, and a causal transformer")
        self.width, self.max_length, self.checkpoint_gradients = width, max_length, checkpoint_gradients
        self.positions: nn.Module | None = None
        if positions != "rotary":
            self.positions = {"learned": LearnedPositions, "sinusoidal": SinusoidalPositions}[positions](
                max_length, width
            )
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList()
        for i in range(num_layers):
            rotary = Rotary(max_length, width // max(1, num_heads)) if positions == "rotary" else None
            pattern: Pattern | None = None if stride is None else ("local", "column")[i % 2]
            attention = SelfAttention(width, num_heads, dropout, num_kv_heads, rotary, causal, pattern, stride or 1)
            self.blocks.append(Block(NORMS[norm], attention, MLPS[mlp], dropout))
        self.norm = NORMS[norm](width)
        self.apply(init_weights)
        # The residual stream has 2 * num_layers additions: scale them so that its variance does not grow with depth.
        for name, weight in self.named_parameters():
            if name.endswith("projection.weight"):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * num_layers))

    def forward(self, h: Tensor, caches: Sequence[KeyValueCache] | None = None) -> Tensor:
        """Map features ``(B, T, width)`` to the same shape; with caches, ``h`` are the positions that follow."""
        if self.positions is not None:
            h = self.positions(h, 0 if caches is None else caches[0].length)
        h = self.dropout(h)
        for i, block in enumerate(self.blocks):
            if self.checkpoint_gradients and self.training:
                h = checkpoint(block, h, use_reentrant=False)
            else:
                h = block(h, None if caches is None else caches[i])
        return self.norm(h)

    def caches(self, max_length: int | None = None) -> list[KeyValueCache]:
        """Make empty caches, one for each block, to generate up to ``max_length`` positions.

        Args:
            max_length: number of positions; ``None`` for the maximal length of a sequence.
        """
        return [KeyValueCache(max_length or self.max_length) for _ in self.blocks]

    def flops(self, length: int) -> int:
        """Give the number of FLOPs of a forward and a backward pass over a sequence of ``length`` positions.

        They are counted as in PaLM (arXiv:2204.02311), appendix B: 6 for each weight and position, and 12 for each
        pair of positions, feature and block, where attention is counted over all pairs, also if it is causal.
        """
        weights = sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Linear))
        return 6 * weights * length + 12 * len(self.blocks) * self.width * length**2


def init_weights(module: nn.Module) -> None:
    """Initialise a linear layer or an embedding as in GPT-2: weights N(0, 0.02²), biases 0; for ``nn.Module.apply``."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Embedding):
        module.weight.embedding = True  # type: ignore[attr-defined]  # for optimizers that treat embeddings differently
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
