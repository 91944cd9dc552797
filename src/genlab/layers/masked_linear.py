"""Networks whose outputs for one dimension see the dimensions before it alone."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError


class MaskedLinear(nn.Linear):
    """A linear layer of which only the weights that ``mask`` allows, ``(out_features, in_features)``, count."""

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.mask * self.weight, self.bias)


class AutoregressiveNet(nn.Module):
    """MADE: Masked Autoencoder for Distribution Estimation (arXiv:1502.03509), in the order of the dimensions.

    Output i is a function of the inputs before i, and of a context where there is one; hidden units see evenly many
    inputs each.

    Args:
        num_dims: of the input.
        hidden: widths of the layers between.
        num_outputs: numbers for every dimension.
        context: numbers that every hidden unit of the first layer sees besides; 0 for none.
    """

    def __init__(self, num_dims: int, hidden: Sequence[int], num_outputs: int, context: int = 0) -> None:
        super().__init__()
        if min(num_dims, num_outputs, *hidden) < 1 or not hidden:
            raise InputError(f"num_dims={num_dims}, hidden={list(hidden)}: at least one layer, and 1 of everything")
        self.num_outputs = num_outputs
        # The number of inputs that a unit may depend on: of the inputs themselves 1..D, of hidden units 0..D-1.
        degrees = [torch.arange(1, num_dims + 1), *(torch.arange(width) % num_dims for width in hidden)]
        self.layers = nn.ModuleList(
            MaskedLinear(after[:, None] >= before) for before, after in itertools.pairwise(degrees)
        )
        last = torch.arange(num_dims).repeat_interleave(num_outputs)  # output i may depend on i inputs
        self.last = MaskedLinear(last[:, None] >= degrees[-1])
        self.context = nn.Linear(context, hidden[0], bias=False) if context else None

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """``(..., D)``, and a context that broadcasts with it, to ``(..., D, num_outputs)``."""
        h = self.layers[0](z)
        if self.context is not None:
            h = h + self.context(context)
        for layer in self.layers[1:]:
            h = layer(F.elu(h))
        return self.last(F.elu(h)).unflatten(-1, (-1, self.num_outputs))
