"""Fully connected encoders and decoders whose hidden units are gated, as in VAE with a VampPrior (arXiv:1705.07120)."""

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.models.vae.networks import Decoder, Encoder, Networks, Shape, with_class


class GatedLinear(nn.Linear):
    """A linear layer whose outputs are multiplied by the sigmoid of a second one; ``(B, inputs)`` to ``(B, outputs)``.

    Args:
        inputs: number of inputs.
        outputs: number of outputs.
    """

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.gate = nn.Linear(inputs, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) * torch.sigmoid(self.gate(x))


class Gated(Networks):
    """Gated layers without another activation; the encoder reads grey levels in [0, 1] as they are.

    Weights begin as normal numbers of variance 2 / inputs.

    Args:
        hidden: widths of the encoder's hidden layers; the decoder mirrors them.

    Raises:
        InputError: if there is no layer, or one has no units.
    """

    def __init__(self, hidden: tuple[int, ...] = (300, 300)) -> None:
        if min(hidden, default=0) < 1:
            raise InputError(f"hidden={list(hidden)}: at least one layer, and every layer needs units")
        self.hidden = tuple(hidden)

    def encoder(self, shape: Shape, num_outputs: int, num_classes: int | None = None) -> Encoder:
        return _GatedEncoder(math.prod(shape), self.hidden, num_outputs, num_classes)

    def decoder(
        self, num_inputs: int, shape: Shape, num_outputs: int, num_classes: int | None = None, precise: bool = True
    ) -> Decoder:
        size = (num_outputs, *shape[1:])
        return _GatedDecoder(num_inputs, self.hidden[::-1], size, num_classes, precise)


class _GatedEncoder(Encoder):
    def __init__(self, inputs: int, hidden: Sequence[int], num_outputs: int, num_classes: int | None) -> None:
        super().__init__()
        self.num_classes = num_classes
        self.body = _stack([inputs + (num_classes or 0), *hidden])
        self.last = nn.Linear(hidden[-1], num_outputs)
        _initialize(self)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.last(self.body(with_class(x.flatten(1), y, self.num_classes)))


class _GatedDecoder(Decoder):
    def __init__(self, inputs: int, hidden: Sequence[int], size: Shape, num_classes: int | None, precise: bool) -> None:
        super().__init__(num_classes, precise)
        self.size = size
        self.body = _stack([inputs + (num_classes or 0), *hidden])
        self.last = nn.Linear(hidden[-1], math.prod(size))
        _initialize(self)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z, y).view(-1, *self.size)


def _stack(sizes: Sequence[int]) -> nn.Sequential:
    return nn.Sequential(*[GatedLinear(inputs, outputs) for inputs, outputs in itertools.pairwise(sizes)])


def _initialize(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=(2 / module.in_features) ** 0.5)
