"""Protocols of models with latents: the methods that an objective needs from the model it trains."""

from typing import Protocol, runtime_checkable

from torch import Tensor

from genlab.distributions.noise import Generators
from genlab.models.vae.posteriors import Gaussian


@runtime_checkable
class Bounded(Protocol):
    """A model with an evidence lower bound.

    Attributes:
        latent_dim: number of latents per image.
    """

    latent_dim: int

    @property
    def units_per_part(self) -> int:
        """Number of units that a part of the KL term adds up; free bits are counted per unit (a latent, or a block)."""

    def elbo_terms(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return log p(x | z) at one draw of z ~ q(z | x), ``(B,)``, and the KL term in parts, ``(B, parts)``, in nats.

        There is one part per latent, one per block of a hierarchy, or a single part for the whole term.
        """

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        """Convert nats per image to bits per dimension."""


@runtime_checkable
class LatentVariable(Bounded, Protocol):
    """A model with one layer of latents z and separate functions for p(z), q(z | x) and p(x | z).

    ``B`` is the number of images, ``k`` the number of draws for each, ``D`` the number of latents. Members are methods
    and properties of the class: since Python 3.12 ``isinstance`` does not see the submodules of an ``nn.Module``.
    """

    @property
    def has_gaussian_posterior(self) -> bool:
        """Tell whether q(z | x) is the Gaussian of :meth:`gaussian`, whose density can be computed at any z."""

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
        """Return log p(z) in nats, ``(..., D)`` to ``(...)``."""

    def log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | z) in nats, ``(B,)``, for latents ``(B, D)``."""

    def log_likelihood_of_many(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | z) in nats, ``(k, B)``, for latents ``(k, B, D)``."""
