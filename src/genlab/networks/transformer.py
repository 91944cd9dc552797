"""The transformer of GPT-2 and of what came after it, one backbone for text, pixels and codes.

Language Models are Unsupervised Multitask Learners (Radford et al., 2019); the options are those of LLaMA
(arXiv:2302.13971). Features in, features out: what is embedded and what is predicted from it belong to the model.
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
    """Two layers with a GELU between, four times as wide inside."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 4 * width)
        self.projection = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        return self.dropout(self.projection(F.gelu(self.hidden(h))))


class SwiGLU(nn.Module):
    """A gated MLP: GLU Variants Improve Transformer (arXiv:2002.05202). Two thirds as wide, so of the same size."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        hidden = 8 * math.ceil(8 * width / 3 / 8)  # of a width that processors like
        self.hidden = nn.Linear(width, 2 * hidden)
        self.projection = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        gate, value = self.hidden(h).chunk(2, dim=-1)
        return self.dropout(self.projection(F.silu(gate) * value))


class Options(TypedDict, total=False):
    """Those of :class:`Transformer` that models hand on."""

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
    """Attention moves information between positions, the MLP works on each; both add to the residual stream."""

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
    """Pre-norm blocks: the output at position i is a function of the inputs at positions up to and including i.

    Args:
        num_layers: blocks.
        num_heads: attention heads a block.
        width: of the residual stream.
        max_length: of a sequence.
        dropout: on the input, the attention weights and each block's two additions.
        positions: ``"learned"`` or ``"sinusoidal"`` vectors that are added to the input, or ``"rotary"`` queries and
            keys.
        norm: ``"layer"`` normalization, or ``"rms"`` (arXiv:1910.07467), which takes no mean away.
        mlp: ``"gelu"`` or ``"swiglu"``.
        num_kv_heads: heads of keys and values, where queries share them.
        stride: layers see, in turns, the last ``stride`` positions and every ``stride``-th one, as in a Sparse
            Transformer (arXiv:1904.10509); for images a row's length. ``None`` for all positions before.
        causal: ``False`` lets every position see all.
        checkpoint_gradients: keep each block's input alone for the backward pass, and compute the rest again: a third
            more time for a fraction of the memory.

    Raises:
        InputError: for sizes below 1, a width that is no multiple of ``num_heads``, a dropout outside [0, 1), a name
            that is none of the above.
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
                raise InputError(f"{name}={value}: there is {', '.join(known)}")
        if stride is not None and (stride < 1 or not causal):
            raise InputError(f"stride={stride}: of a causal transformer, 1 or more")
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
        # 2 * num_layers additions to the residual stream: scaled so that its variance does not grow with depth.
        for name, weight in self.named_parameters():
            if name.endswith("projection.weight"):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * num_layers))

    def forward(self, h: Tensor, caches: Sequence[KeyValueCache] | None = None) -> Tensor:
        """``(B, T, width)`` to the same; with :meth:`caches`, ``h`` are the T positions after those in them."""
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
        """Empty caches, one a block, to generate up to ``max_length`` positions."""
        return [KeyValueCache(max_length or self.max_length) for _ in self.blocks]

    def flops(self, length: int) -> int:
        """Of a forward and a backward pass over a sequence: 6 a weight and position, and attention's 12 a pair.

        Counted as in PaLM (arXiv:2204.02311), appendix B, where attention is taken over all pairs.
        """
        weights = sum(m.weight.numel() for m in self.modules() if isinstance(m, nn.Linear))
        return 6 * weights * length + 12 * len(self.blocks) * self.width * length**2


def init_weights(module: nn.Module) -> None:
    """GPT-2's initialisation of a linear layer or an embedding: N(0, 0.02²), no bias. For ``nn.Module.apply``."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Embedding):
        module.weight.embedding = True  # type: ignore[attr-defined]  # for optimizers that treat other matrices otherwise
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
