"""Masked linear layers, and networks whose outputs for a dimension depend only on earlier dimensions."""

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.layers.elu import elu


class MaskedLinear(nn.Linear):
    """Linear layer whose weights are multiplied by a mask.

    Args:
        mask: mask of the weights, ``(out_features, in_features)``: 1 or True for weights that are used, else 0.
    """

    mask: Tensor

    def __init__(self, mask: Tensor) -> None:
        super().__init__(mask.shape[1], mask.shape[0])
        self.register_buffer("mask", mask.to(self.weight.dtype), persistent=False)

    def forward(self, h: Tensor) -> Tensor:
        return F.linear(h, self.mask * self.weight, self.bias)


class AutoregressiveNet(nn.Module):
    """Masked network of MADE: Masked Autoencoder for Distribution Estimation (arXiv:1502.03509).

    Dimensions are in their natural order. Output i is a function of the inputs before i, and of a context if there is
    one. The numbers of inputs that hidden units see are spread evenly.

    Args:
        num_dims: number of input dimensions D.
        hidden: widths of the hidden layers.
        num_outputs: number of outputs for each dimension.
        context: number of context features, which every unit of the first hidden layer sees; 0 for no context.

    Raises:
        InputError: if there is no hidden layer, or a size is below 1.
    """

    def __init__(self, num_dims: int, hidden: Sequence[int], num_outputs: int, context: int = 0) -> None:
        super().__init__()
        if min(num_dims, num_outputs, *hidden) < 1 or not hidden:
            raise InputError(f"num_dims={num_dims}, hidden={list(hidden)}: at least one layer, and sizes of at least 1")
        self.num_outputs = num_outputs
        # The degree of a unit is the number of inputs that it may depend on: 1..D for the inputs themselves, and 0..D-1
        # for hidden units.
        degrees = [torch.arange(1, num_dims + 1), *(torch.arange(width) % num_dims for width in hidden)]
        self.layers = nn.ModuleList(
            MaskedLinear(after[:, None] >= before) for before, after in itertools.pairwise(degrees)
        )
        last = torch.arange(num_dims).repeat_interleave(num_outputs)  # output i may depend on i inputs
        self.last = MaskedLinear(last[:, None] >= degrees[-1])
        self.context = nn.Linear(context, hidden[0], bias=False) if context else None

    def forward(self, z: Tensor, context: Tensor | None = None) -> Tensor:
        """Map ``(..., D)``, and a context that broadcasts with it, to ``(..., D, num_outputs)``."""
        h = self.layers[0](z)
        if self.context is not None:
            h = h + self.context(context)
        for layer in self.layers[1:]:
            h = layer(elu(h))
        return self.last(elu(h)).unflatten(-1, (-1, self.num_outputs))
