"""Priors p(z) of a VAE."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable

import torch
from torch import Tensor, nn

from genlab.distributions.noise import Generators, integers
from genlab.errors import InputError
from genlab.models.vae.posteriors import Gaussian

# Maps images (B, C, H, W), and their classes if the model is conditional, to their approximate posterior.
Encode = Callable[[Tensor, Tensor | None], Gaussian]


class Prior(nn.Module, ABC):
    """A distribution of latents with a density and draws.

    Attributes:
        is_standard: whether it is N(0, I), so that KL(q || p) has a closed form for a Gaussian q.
    """

    is_standard = False

    @abstractmethod
    def log_prob(self, z: Tensor, encode: Encode) -> Tensor:
        """Return the log-density of latents ``(..., D)``, in nats, ``(...)``."""

    @abstractmethod
    def sample(self, noise: Tensor, generator: Generators, encode: Encode) -> Tensor:
        """Turn noise into draws ``(N, D)``.

        Args:
            noise: standard normal noise ``(N, D)``; a smaller standard deviation keeps draws near the centre, or the
                centres of a mixture's components.
            generator: generators of further random choices, such as the component of a mixture.
            encode: function from images and classes to their posterior, for priors made of posteriors.
        """

    def initialize(self, x: Tensor) -> None:
        """Initialize parameters from training images ``(N, C, H, W)``, before training."""


class StandardNormal(Prior):
    """The standard normal prior, N(0, I)."""

    is_standard = True

    def log_prob(self, z: Tensor, encode: Encode) -> Tensor:
        return (-0.5 * z.square() - 0.5 * math.log(2 * math.pi)).sum(-1)

    def sample(self, noise: Tensor, generator: Generators, encode: Encode) -> Tensor:
        return noise


class VampPrior(Prior):
    """An equal mixture of the posteriors of learned images (pseudo-inputs): VAE with a VampPrior (arXiv:1705.07120).

    Args:
        shape: shape of a pseudo-input, ``(C, H, W)``.
        num_components: number of pseudo-inputs; they are initialized to training examples.
        num_classes: number of classes; pseudo-input i has class ``i % num_classes``. None for an unconditional model.

    Raises:
        InputError: if ``num_components`` is not positive.
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
        """Return the posteriors of the pseudo-inputs: mean and standard deviation, ``(num_components, D)`` each."""
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
