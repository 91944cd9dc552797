"""Weight normalization, and its initialization from data: arXiv:1602.07868."""

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from genlab.layers.fitting import Convolution, initialize_from_data
from genlab.layers.precision import own_precision

# Number of examples that layers are initialized from; features of that many are kept at once.
INITIAL_IMAGES = 64
# Standard deviation that directions begin with. Their length is divided out, but decides how far a step turns them.
FIRST_DIRECTIONS = 0.05
# Standard deviation that the parameters of pixels begin with, around those that fit the data. In the code of PixelCNN++
# it is 1, around 0, from where the likelihood of CIFAR-10 begins far below that of its histograms.
FIRST_PARAMETERS = 0.1


def normalize_weights(network: nn.Module) -> None:
    """Turn the weights of all convolutions into g v / |v|, with a learned length g for each output channel.

    The functions of the network stay what they are.

    Args:
        network: network whose convolutions are changed in place.
    """
    for layer in [module for module in network.modules() if isinstance(module, Convolution)]:
        weight_norm(layer, "weight", dim=1 if isinstance(layer, nn.ConvTranspose2d) else 0)
        direction = cast(Tensor, cast(nn.ModuleDict, layer.parametrizations)["weight"].original1)
        with torch.no_grad():
            direction.mul_(FIRST_DIRECTIONS / direction.square().mean().sqrt())


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
