"""The variational autoencoder: Auto-Encoding Variational Bayes (arXiv:1312.6114)."""

import itertools
import math
from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.noise import Generators, normal, uniform
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.models.base import LikelihoodModel


class VAE(LikelihoodModel):
    """Gaussian prior and posterior, fully connected encoder and decoder.

    ``log_prob`` is the evidence lower bound at one draw of z; :meth:`importance_weighted` tightens it. With ``beta``
    other than 1 training minimises the β-VAE's objective (Higgins et al., ICLR 2017), and ``log_prob`` stays the bound.

    Args:
        distribution: of a pixel given the latents.
        latent_dim: dimensions of z.
        hidden: widths of the encoder's layers, none for a linear one; the decoder mirrors them.
        beta: weight of the KL term in the loss.
        sample_pixels: ``sample`` draws x ~ p(x | z) where true, and gives the mean E[x | z] where false.
    """

    likelihood: ClassVar[Literal["exact", "lower_bound"]] = "lower_bound"

    def __init__(
        self,
        shape: tuple[int, int, int],
        distribution: PixelDistribution,
        num_classes: int | None = None,
        latent_dim: int = 32,
        hidden: tuple[int, ...] = (512, 512),
        beta: float = 1.0,
        sample_pixels: bool = False,
    ) -> None:
        super().__init__(shape, num_classes)
        if min([latent_dim, *hidden]) < 1:
            raise InputError(f"every layer of a VAE needs units: latent_dim={latent_dim}, hidden={list(hidden)}")
        self.distribution, self.latent_dim, self.beta = distribution, latent_dim, beta
        self.sample_pixels = sample_pixels
        self.sampler = "x ~ p(x | z)" if sample_pixels else "E[x | z]"  # type: ignore[misc]
        condition = num_classes or 0
        self.encoder = _mlp([self.num_dims + condition, *hidden, 2 * latent_dim])
        self.decoder = _mlp([latent_dim + condition, *reversed(hidden), self.num_dims * distribution.num_params])

    def _with_class(self, features: Tensor, y: Tensor | None) -> Tensor:
        if self.num_classes is None:
            return features
        if y is None:
            raise InputError("this VAE is class-conditional: give the classes y")
        return torch.cat([features, F.one_hot(y, self.num_classes).to(features)], dim=1)

    def posterior(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of q(z | x), each ``(B, latent_dim)``."""
        h = self.encoder(self._with_class(2 * x.flatten(1) - 1, y))
        # Out of bfloat16, should the encoder run in it; float64 stays what it is.
        mean, log_std = h.to(torch.promote_types(h.dtype, torch.float32)).chunk(2, dim=1)
        return mean, log_std.clamp(-7, 7).exp()

    def likelihood_params(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Parameters of p(x | z), ``(B, num_params, C, H, W)``."""
        return self.decoder(self._with_class(z, y)).view(len(z), self.distribution.num_params, *self.shape)

    def _log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
        return self.distribution.log_prob(self.likelihood_params(z, y), x).flatten(1).sum(1)

    def elbo_terms(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """log p(x | z) at one draw of z ~ q(z | x), and KL(q(z | x) || p(z)) in closed form; nats, each ``(B,)``."""
        mean, std = self.posterior(x, y)
        z = mean + std * torch.randn_like(std)
        kl = 0.5 * (mean.square() + std.square() - 1 - 2 * std.log()).sum(1)
        return self._log_likelihood(x, z, y), kl

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        reconstruction, kl = self.elbo_terms(x, y)
        return reconstruction - kl

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        reconstruction, kl = (term.mean() for term in self.elbo_terms(x, y))
        return {
            "loss": self.bits_per_dim(self.beta * kl - reconstruction),
            "nll": kl - reconstruction,
            "reconstruction": -reconstruction,
            "kl": kl,
        }

    @torch.no_grad()
    def importance_weighted(
        self, x: Tensor, y: Tensor | None = None, *, num_samples: int = 5000, chunk_size: int | None = None
    ) -> Tensor:
        """The bound of Importance Weighted Autoencoders (arXiv:1509.00519), nats ``(B,)``.

        log 1/k sum_i p(x, z_i) / q(z_i | x) over k = ``num_samples`` draws, ``chunk_size`` at a time in memory; left
        out, as many as make a decoder's output of 16 million numbers.
        """
        if chunk_size is None:
            chunk_size = max(1, 2**24 // (len(x) * self.num_dims * self.distribution.num_params))
        mean, std = self.posterior(x, y)
        total = torch.full((len(x),), -math.inf, device=x.device)
        for start in range(0, num_samples, chunk_size):
            k = min(chunk_size, num_samples - start)
            noise = torch.randn(k, *mean.shape, dtype=mean.dtype, device=x.device)
            z = (mean + std * noise).flatten(0, 1)
            repeated = y.repeat(k) if y is not None else None
            log_likelihood = self._log_likelihood(x.repeat(k, 1, 1, 1), z, repeated).view(k, -1)
            # log p(z) - log q(z | x): the normalisers 1/2 log 2 pi cancel.
            log_ratio = (0.5 * (noise.square() - z.view_as(noise).square()) + std.log()).sum(-1)
            total = torch.logaddexp(total, torch.logsumexp(log_likelihood + log_ratio, dim=0))
        return total - math.log(num_samples)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The posterior's mean, ``(B, latent_dim)``."""
        return self.posterior(x, y)[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x | z], ``(B, C, H, W)``."""
        return self.distribution.mean(self.likelihood_params(z, y))

    @torch.no_grad()
    def sample(
        self, num_samples: int, y: Tensor | None = None, *, generator: Generators = None, temperature: float = 1.0
    ) -> Tensor:
        y = self.classes(num_samples, y, generator)
        z = temperature * normal((num_samples, self.latent_dim), generator, self.device)
        if not self.sample_pixels:
            return self.decode(z, y)
        u = uniform((num_samples, *self.shape), generator, self.device)
        return self.distribution.sample(self.likelihood_params(z, y), u, temperature)


def _mlp(widths: Sequence[int]) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (inputs, outputs) in enumerate(itertools.pairwise(widths)):
        layers += [nn.SiLU()] * (i > 0) + [nn.Linear(inputs, outputs)]
    return nn.Sequential(*layers)
