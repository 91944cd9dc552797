"""Priors p(z) of a VAE."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Literal

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
        num_components: number of pseudo-inputs.
        num_classes: number of classes; pseudo-input i has class ``i % num_classes``. None for an unconditional model.
        squash: how the learned numbers become pixels in [0, 1]: by a sigmoid, or cut off at 0 and 1 as in the authors'
            code.
        first_mean: mean of the learned numbers before training, with a standard deviation of 0.01; 0.05 in the authors'
            code on MNIST. None to begin at training examples.

    Raises:
        InputError: if ``num_components`` is not positive.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_components: int = 500,
        num_classes: int | None = None,
        squash: Literal["sigmoid", "hardtanh"] = "sigmoid",
        first_mean: float | None = None,
    ) -> None:
        super().__init__()
        if num_components < 1:
            raise InputError(f"num_components={num_components}: at least 1")
        self.num_classes, self.squash, self.first_mean = num_classes, squash, first_mean
        scale, mean = (0.5, 0.0) if first_mean is None else (0.01, first_mean)
        self.logits = nn.Parameter(mean + scale * torch.randn(num_components, *shape))  # or numbers that are cut off

    def initialize(self, x: Tensor) -> None:
        if self.first_mean is not None:
            return
        examples = x[torch.arange(len(self.logits)) % len(x)].to(self.logits)
        self.logits.data.copy_(torch.logit(examples, eps=0.05) if self.squash == "sigmoid" else examples)

    def pseudo_inputs(self) -> Tensor:
        """Return the learned images in [0, 1], ``(num_components, C, H, W)``."""
        return torch.sigmoid(self.logits) if self.squash == "sigmoid" else self.logits.clamp(0, 1)

    def components(self, encode: Encode) -> Gaussian:
        """Return the posteriors of the pseudo-inputs: mean and standard deviation, ``(num_components, D)`` each."""
        y = None
        if self.num_classes is not None:
            y = torch.arange(len(self.logits), device=self.logits.device) % self.num_classes
        return encode(self.pseudo_inputs(), y)

    def log_prob(self, z: Tensor, encode: Encode) -> Tensor:
        each = self.components(encode).log_prob_each(z.flatten(0, -2))
        return (torch.logsumexp(each, 1) - math.log(len(self.logits))).view(z.shape[:-1])

    def sample(self, noise: Tensor, generator: Generators, encode: Encode) -> Tensor:
        q = self.components(encode)
        k = integers(len(self.logits), len(noise), generator, noise.device)
        return q.mean[k] + q.std[k] * noise
