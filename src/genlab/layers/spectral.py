"""Spectral normalization of a whole network."""

from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

N = TypeVar("N", bound=nn.Module)


def spectrally_normalized(network: N, embeddings: bool = True) -> N:
    """Divide the weight of every linear and convolutional layer by its largest singular value.

    It uses PyTorch's parametrization, in place. Spectral Normalization for Generative Adversarial Networks
    (arXiv:1802.05957).

    Args:
        network: network whose layers are normalized.
        embeddings: whether to normalize embeddings, too. D's should be, because its logits are linear in its class
            embedding; SAGAN and BigGAN do not normalize those of G, which may be 0.

    Returns:
        The same network.
    """
    kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    if embeddings:
        kinds = (*kinds, nn.Embedding)
    for module in list(network.modules()):
        if isinstance(module, kinds):
            spectral_norm(module)
    return network
