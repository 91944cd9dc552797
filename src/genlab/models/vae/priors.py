"""Priors p(z) of a VAE."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from genlab.distributions.noise import Generators, integers
from genlab.errors import InputError
from genlab.models.vae.posteriors import Gaussian

# Images (B, C, H, W), and their classes where the model is conditional, to their approximate posterior.
Encode = Callable[[Tensor, Tensor | None], Gaussian]


class Prior(nn.Module, ABC):
    """Densities and draws of latents.

    Attributes:
        is_standard: N(0, I), to which a Gaussian's divergence has a closed form.
    """

    is_standard = False

    @abstractmethod
    def log_prob(self, z: Tensor, encode: Encode) -> Tensor:
        """Latents ``(..., D)`` to nats ``(...)``."""

    @abstractmethod
    def sample(self, noise: Tensor, generator: Generators, encode: Encode) -> Tensor:
        """Draws ``(N, D)``.

        Args:
            noise: standard normal ``(N, D)``, or of a smaller standard deviation to keep near the components' centres.
            generator: of what else is drawn.
        """

    def initialize(self, x: Tensor) -> None:
        """Set what is set by data, before training: ``x`` is ``(N, C, H, W)``."""


class StandardNormal(Prior):
    """N(0, I)."""

    is_standard = True

    def log_prob(self, z: Tensor, encode: Encode) -> Tensor:
        return (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def sample(self, noise: Tensor, generator: Generators, encode: Encode) -> Tensor:
        return noise


class VampPrior(Prior):
    """The mean of the posteriors of learned images: VAE with a VampPrior (arXiv:1705.07120).

    Args:
        shape: ``(C, H, W)`` of the learned images, the pseudo-inputs.
        num_components: of them. They begin as training examples.
        num_classes: of a conditional model; pseudo-input i is of class ``i % num_classes``.
    """

    def __init__(self, shape: tuple[int, int, int], num_components: int = 500, num_classes: int | None = None) -> None:
        super().__init__()
        if num_components < 1:
            raise InputError(f"num_components={num_components}: at least 1")
        self.num_classes = num_classes
        self.logits = nn.Parameter(0.5 * torch.randn(num_components, *shape))

    def initialize(self, x: Tensor) -> None:
        examples = x[torch.arange(len(self.logits)) % len(x)].to(self.logits)
        self.logits.data.copy_(torch.logit(examples, eps=0.05))

    def components(self, encode: Encode) -> Gaussian:
        """The posteriors of the pseudo-inputs, ``(num_components, D)`` each."""
        y = None
        if self.num_classes is not None:
            y = torch.arange(len(self.logits), device=self.logits.device) % self.num_classes
        return encode(torch.sigmoid(self.logits), y)

    def log_prob(self, z: Tensor, encode: Encode) -> Tensor:
        each = self.components(encode).log_prob_each(z.flatten(0, -2))
        return (torch.logsumexp(each, 1) - math.log(len(self.logits))).view(z.shape[:-1])

    def sample(self, noise: Tensor, generator: Generators, encode: Encode) -> Tensor:
        q = self.components(encode)
        k = integers(len(self.logits), len(noise), generator, noise.device)
        return q.mean[k] + q.std[k] * noise
