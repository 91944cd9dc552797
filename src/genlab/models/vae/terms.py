"""Protocols of models with latents: what an objective needs of the model that it trains."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from genlab.distributions.noise import Generators
from genlab.models.vae.posteriors import Gaussian


@runtime_checkable
class Bounded(Protocol):
    """A model with an evidence lower bound.

    Attributes:
        latent_dim: number of latents of one image.
    """

    latent_dim: int

    def elbo_terms(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return log p(x | z) at one draw of z ~ q(z | x), ``(B,)``, and the KL term in parts, ``(B, parts)``, in nats.

        The parts are the latents, the blocks of a hierarchy, or the whole term alone.
        """

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        """Convert nats of an image to bits per dimension."""


@runtime_checkable
class LatentVariable(Bounded, Protocol):
    """A model of one layer of latents z, whose prior p(z), posterior q(z | x) and likelihood p(x | z) are known apart.

    ``B`` is the number of images, ``k`` the number of draws for each, ``D`` the number of latents. Members are methods
    and properties of the class: since Python 3.12 ``isinstance`` does not see the submodules of an ``nn.Module``.
    """

    @property
    def has_gaussian_posterior(self) -> bool:
        """Whether q(z | x) is the Gaussian of :meth:`gaussian`, whose density is known at every z."""

    def posterior_params(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode images into the parameters of q(z | x), ``(B, num_params)``."""

    def gaussian(self, x: Tensor, y: Tensor | None = None) -> Gaussian:
        """Return the mean and standard deviation of q(z | x), or of the Gaussian that its flows start from."""

    def draw_posterior(self, params: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Turn standard normal noise ``(k, B, D)`` into z ~ q(z | x), ``(k, B, D)``, and log q(z | x), ``(k, B)``."""

    def draw(self, x: Tensor, y: Tensor | None = None, num: int = 1) -> tuple[Tensor, Tensor]:
        """Draw ``num`` times from q(z | x): z, ``(num, B, D)``, and log q(z | x), ``(num, B)``."""

    def draw_prior(self, noise: Tensor, generator: Generators = None) -> Tensor:
        """Turn standard normal noise ``(N, D)`` into draws of p(z) of that shape."""

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z), ``(..., D)`` to ``(...)``."""

    def log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | z), ``(B,)``, of latents ``(B, D)``."""

    def log_likelihood_of_many(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | z), ``(k, B)``, of latents ``(k, B, D)``."""
