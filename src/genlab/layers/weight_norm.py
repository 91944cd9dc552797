"""Weight normalization, and its initialization from data: arXiv:1602.07868."""

from collections.abc import Callable, Mapping
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from genlab.layers.precision import own_precision
from genlab.layers.shifted_conv import ShiftedConv2d

# Number of examples that layers are initialized from; features of that many are kept at once.
INITIAL_IMAGES = 64
# Standard deviation that directions begin with. Their length is divided out, but decides how far a step turns them.
FIRST_DIRECTIONS = 0.05
# Standard deviation that the parameters of pixels begin with, around those that fit the data. In the code of PixelCNN++
# it is 1, around 0, from where the likelihood of CIFAR-10 begins far below that of its histograms.
FIRST_PARAMETERS = 0.1
# An output whose standard deviation is below this is constant up to rounding, and is left as it is.
CONSTANT = 1e-4

Convolution = nn.Conv2d | nn.ConvTranspose2d | ShiftedConv2d


def normalize_weights(network: nn.Module) -> None:
    """Turn the weights of all convolutions into g v / |v|, with a learned length g for each output channel.

    The functions of the network stay what they are.

    Args:
        network: network whose convolutions are changed in place.
    """
    for layer in [module for module in network.modules() if isinstance(module, Convolution)]:
        weight_norm(layer, "weight", dim=1 if isinstance(layer, nn.ConvTranspose2d) else 0)
        direction = _length_and_direction(layer)[1]
        with torch.no_grad():
            direction.mul_(FIRST_DIRECTIONS / direction.square().mean().sqrt())


@torch.no_grad()
def initialize_from_data(
    network: nn.Module, run: Callable[[], object], deviations: Mapping[nn.Module, float] | None = None
) -> None:
    """Choose lengths and biases such that the outputs of each convolution have mean 0 and a chosen deviation.

    Layers are initialized in the order in which ``run`` calls them, each from the outputs of those before it. The
    standard deviation is the one given, or else the layer's attribute ``first_deviation``, or else 1.

    Args:
        network: network that :func:`normalize_weights` has changed.
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
        length = _length_and_direction(layer)[0]
        length.mul_(scale.view_as(length))
        layer.bias.mul_(scale).add_(shift)
        return output * scale.view(-1, 1, 1) + shift.view(-1, 1, 1)

    normalized = [module for module in network.modules() if isinstance(module, Convolution)]
    hooks = [layer.register_forward_hook(fit) for layer in normalized]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()


def initialize_pixel_network(
    network: nn.Module, last: nn.Conv2d, x: Tensor, y: Tensor | None, fit: Callable[[Tensor], Tensor]
) -> None:
    """Initialize all convolutions of a network from images, and the last bias from their pixels.

    Args:
        network: network from images and classes to the parameters of pixels, changed by :func:`normalize_weights`.
        last: last layer of the network.
        x: training images ``(N, C, H, W)``.
        y: classes of the images, int64 ``(N,)``; None without classes.
        fit: function from pixels ``(N H W, C)`` to the parameters that fit them.
    """
    assert last.bias is not None
    training = network.training
    network.eval()  # without dropout
    with own_precision(x, True):
        few = x[:INITIAL_IMAGES], None if y is None else y[:INITIAL_IMAGES]
        initialize_from_data(network, lambda: network(*few), {last: FIRST_PARAMETERS})
    network.train(training)
    with torch.no_grad():
        last.bias.copy_(fit(x.transpose(0, 1).flatten(1).T))


def _length_and_direction(layer: nn.Module) -> tuple[Tensor, Tensor]:
    parts = cast(nn.ModuleDict, layer.parametrizations)["weight"]
    return cast(Tensor, parts.original0), cast(Tensor, parts.original1)
