"""The causal transformer of GPT-2: Language Models are Unsupervised Multitask Learners (Radford et al., 2019).

Features in, features out: what is embedded, where it stands in the sequence and what is predicted from it belong to
the model.
"""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from genlab.errors import InputError
from genlab.layers.attention import CausalSelfAttention, KeyValueCache


class MLP(nn.Module):
    """Two layers with a GELU between, four times as wide inside."""

    def __init__(self, width: int, dropout: float) -> None:
        super().__init__()
        self.hidden = nn.Linear(width, 4 * width)
        self.activation = nn.GELU()
        self.projection = nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, h: Tensor) -> Tensor:
        return self.dropout(self.projection(self.activation(self.hidden(h))))


class Block(nn.Module):
    """Attention moves information between positions, the MLP works on each; both add to the residual stream."""

    def __init__(self, num_heads: int, width: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = CausalSelfAttention(width, num_heads, dropout)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = MLP(width, dropout)

    def forward(self, h: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        h = h + self.attention(self.norm1(h), cache)
        return h + self.mlp(self.norm2(h))


class Transformer(nn.Module):
    """Pre-norm blocks: the output at position i is a function of the inputs at positions up to and including i.

    Args:
        num_layers: blocks.
        num_heads: attention heads a block.
        width: of the residual stream.
        dropout: on the input, the attention weights and each block's two additions.

    Raises:
        InputError: for sizes below 1, a width that is no multiple of ``num_heads``, a dropout outside [0, 1).
    """

    def __init__(self, num_layers: int, num_heads: int, width: int, dropout: float = 0.0) -> None:
        super().__init__()
        if num_layers < 1:
            raise InputError(f"num_layers={num_layers}: a transformer needs at least 1 layer")
        if not 0 <= dropout < 1:
            raise InputError(f"dropout={dropout}: expected a probability in [0, 1)")
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(Block(num_heads, width, dropout) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)
        self.apply(init_weights)
        # 2 * num_layers additions to the residual stream: scaled so that its variance does not grow with depth.
        for name, weight in self.named_parameters():
            if name.endswith("projection.weight"):
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * num_layers))

    def forward(self, h: Tensor, caches: Sequence[KeyValueCache] | None = None) -> Tensor:
        """``(B, T, width)`` to the same; with :meth:`caches`, ``h`` are the T positions after those in them."""
        h = self.dropout(h)
        for i, block in enumerate(self.blocks):
            h = block(h, None if caches is None else caches[i])
        return self.norm(h)

    def caches(self, max_length: int) -> list[KeyValueCache]:
        """Empty caches, one a block, to generate up to ``max_length`` positions."""
        return [KeyValueCache(max_length) for _ in self.blocks]


def init_weights(module: nn.Module) -> None:
    """GPT-2's initialisation of a linear layer or an embedding: N(0, 0.02²), no bias. For ``nn.Module.apply``."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
