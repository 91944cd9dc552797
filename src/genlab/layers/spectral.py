"""Spectral normalization of a whole network."""

from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

N = TypeVar("N", bound=nn.Module)


def spectrally_normalized(network: N) -> N:
    """Divide every weight of linear and convolutional layers and embeddings by its largest singular value, by PyTorch's
    own parametrization: Spectral Normalization for Generative Adversarial Networks (arXiv:1802.05957)."""
    for module in list(network.modules()):
        if isinstance(module, nn.Linear | nn.Conv2d | nn.ConvTranspose2d | nn.Embedding):
            spectral_norm(module)
    return network
