"""Spectral normalization of a whole network."""

from typing import TypeVar

from torch import nn
from torch.nn.utils.parametrizations import spectral_norm

N = TypeVar("N", bound=nn.Module)


def spectrally_normalized(network: N, embeddings: bool = True) -> N:
    """Divide every weight of linear and convolutional layers by its largest singular value, by PyTorch's own
    parametrization: Spectral Normalization for Generative Adversarial Networks (arXiv:1802.05957).

    Args:
        embeddings: theirs, too: D's logits are linear in its class embedding. G's embeddings, which SAGAN and BigGAN do
            not normalise, may be 0.
    """
    kinds: tuple[type[nn.Module], ...] = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d)
    if embeddings:
        kinds = (*kinds, nn.Embedding)
    for module in list(network.modules()):
        if isinstance(module, kinds):
            spectral_norm(module)
    return network
