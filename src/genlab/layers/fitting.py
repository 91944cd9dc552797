"""Initialization from data: of layers that fit themselves to their next batch, and of convolutions.

The latter is that of Weight Normalization (arXiv:1602.07868), section 3.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Protocol, cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from genlab.layers.shifted_conv import ShiftedConv2d

# An output whose standard deviation is below this is constant up to rounding, and is left as it is.
CONSTANT = 1e-4

Convolution = nn.Conv2d | nn.ConvTranspose2d | ShiftedConv2d


class Fitted(Protocol):
    """A layer that initializes itself from what it is given while ``fitting`` is True, and then passes it on."""

    fitting: bool


@contextmanager
def fitted(layers: Sequence[Fitted]) -> Iterator[None]:
    """Let layers initialize themselves from what they are given within the context.

    Args:
        layers: layers of one model.
    """
    try:
        for layer in layers:
            layer.fitting = True
        yield
    finally:
        for layer in layers:
            layer.fitting = False


@torch.no_grad()
def initialize_from_data(
    network: nn.Module, run: Callable[[], object], deviations: Mapping[nn.Module, float] | None = None
) -> None:
    """Scale weights and choose biases such that the outputs of each convolution have mean 0 and a chosen deviation.

    Where weights are normalized, their lengths are scaled, otherwise the weights. Layers are initialized in the order
    in which ``run`` calls them, each from the outputs of those before it. The standard deviation is the one given, or
    else the layer's attribute ``first_deviation``, or else 1.

    Args:
        network: network whose convolutions have biases, and are weight-normalized or not.
        run: function that applies the network to data, and calls each convolution at most once.
        deviations: standard deviations of the outputs of some layers.
    """

    def fit(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        assert isinstance(layer, Convolution)
        assert isinstance(layer.bias, Tensor)
        std, mean = torch.std_mean(output.float(), (0, 2, 3), correction=0)
        deviation = (deviations or {}).get(layer, getattr(layer, "first_deviation", 1.0))
        chosen = torch.full_like(std, deviation)
        scale = torch.where(std > CONSTANT, chosen / std, torch.ones_like(std)).to(output.dtype)
        shift = -mean.to(output.dtype) * scale
        scaled = _scaled(layer)
        scaled.mul_(scale.view([1, -1, 1, 1] if isinstance(layer, nn.ConvTranspose2d) else [-1, 1, 1, 1]))
        layer.bias.mul_(scale).add_(shift)
        return output * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)

    layers = [module for module in network.modules() if isinstance(module, Convolution)]
    hooks = [layer.register_forward_hook(fit) for layer in layers]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()


def _scaled(layer: Convolution) -> Tensor:
    """Give the tensor whose factor is that of the weights: their lengths if they are normalized."""
    if is_parametrized(layer, "weight"):
        return cast(Tensor, cast(nn.ModuleDict, layer.parametrizations)["weight"].original0)
    return layer.weight
