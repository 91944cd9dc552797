"""The variational autoencoder: Auto-Encoding Variational Bayes (arXiv:1312.6114)."""

import math

import torch
from torch import Tensor

from genlab.distributions.noise import Generators, normal, uniform
from genlab.distributions.pixel import Likelihood, PixelDistribution
from genlab.errors import InputError
from genlab.machine.devices import precise
from genlab.models.base import LikelihoodModel
from genlab.models.graph import Graph, of_method, typical
from genlab.models.in_parts import in_parts
from genlab.models.sampling import SamplingSettings
from genlab.models.vae.networks import Networks, fit_bias
from genlab.models.vae.objectives import Objective
from genlab.models.vae.posteriors import DiagonalGaussian, Gaussian, Posterior
from genlab.models.vae.priors import Prior, StandardNormal, VampPrior
from genlab.models.vae.terms import LatentVariable

# A latent is active if the variance of its posterior mean over images exceeds this: arXiv:1509.00519, section 5.2.
ACTIVE_VARIANCE = 0.01


class VAE(LikelihoodModel):
    """A variational autoencoder: prior p(z), approximate posterior q(z | x) and likelihood p(x | z).

    Networks, posterior, prior and objective are parts to choose. ``log_prob`` is the evidence lower bound at one draw
    of z, whatever training minimises; :meth:`importance_weighted` tightens it.

    Args:
        shape: image shape ``(C, H, W)``.
        distribution: distribution of a pixel given the latents.
        networks: builder of the encoder and the decoder.
        objective: loss that training minimises.
        posterior: family of q(z | x); None for a diagonal Gaussian.
        prior: prior p(z); None for N(0, I).
        num_classes: number of classes, which the encoder and decoder see; None for an unconditional model.
        latent_dim: dimension of z; None if the networks say it, as those whose latents are a grid.
        sample_pixels: whether ``sample`` draws x ~ p(x | z); otherwise it returns the mean E[x | z].

    Attributes:
        latent_shape: shape of the latents of an image, ``(latent_dim,)`` or a grid ``(C, h, w)``; methods take and
            return them as vectors.

    Raises:
        InputError: if ``latent_dim`` is not positive, or the parts do not fit each other.
    """

    likelihood: Likelihood = "lower_bound"

    def __init__(
        self,
        shape: tuple[int, int, int],
        distribution: PixelDistribution,
        networks: Networks,
        objective: Objective[LatentVariable],
        posterior: Posterior | None = None,
        prior: Prior | None = None,
        num_classes: int | None = None,
        latent_dim: int | None = 32,
        sample_pixels: bool = False,
    ) -> None:
        super().__init__(shape, num_classes)
        grid = networks.latent_shape(shape)
        if grid is not None and latent_dim not in (None, math.prod(grid)):
            raise InputError(
                f"latent_dim={latent_dim}: these networks have {' x '.join(map(str, grid))} latents; give "
                "model.latent_dim=null"
            )
        if grid is None and (latent_dim is None or latent_dim < 1):
            raise InputError(f"latent_dim={latent_dim}: at least 1 for these networks")
        self.latent_shape: tuple[int, ...] = grid or (latent_dim or 0,)
        latent_dim = math.prod(self.latent_shape)
        self.distribution, self.latent_dim, self.sample_pixels = distribution, latent_dim, sample_pixels
        self.posterior = posterior or DiagonalGaussian()
        self.prior = prior or StandardNormal()
        self.objective = objective
        if isinstance(self.prior, VampPrior) and not self.has_gaussian_posterior:
            raise InputError("vae/prior=vamp needs a posterior whose density is known: choose vae/posterior=gaussian")
        self.objective.check(self)
        self.encoder = networks.encoder(shape, self.posterior.num_params(latent_dim), num_classes)
        self.decoder = networks.decoder(
            latent_dim, shape, distribution.num_params * shape[0], num_classes, distribution.needs_float32
        )

    # -- its parts, as functions of images and latents -----------------------------------------------------------------

    @property
    def has_gaussian_posterior(self) -> bool:
        """Tell whether q(z | x) is a diagonal Gaussian, whose density can be computed at any z."""
        return isinstance(self.posterior, DiagonalGaussian)

    def posterior_params(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode images into the parameters of q(z | x), ``(B, num_params)``."""
        return self.posterior.limit(self.encoder(x, y))

    def gaussian(self, x: Tensor, y: Tensor | None = None) -> Gaussian:
        """Return the mean and standard deviation of q(z | x), or of the Gaussian that its flows start from."""
        return Gaussian.of(self.posterior_params(x, y)[:, : 2 * self.latent_dim])

    def draw_posterior(self, params: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Turn standard normal noise ``(k, B, latent_dim)`` into draws of q(z | x) and log q(z | x), ``(k, B)``."""
        return self.posterior.draw(params, noise)

    def draw(self, x: Tensor, y: Tensor | None = None, num: int = 1) -> tuple[Tensor, Tensor]:
        """Draw ``num`` times from q(z | x): z, ``(num, B, latent_dim)``, and log q(z | x), ``(num, B)``."""
        h = self.posterior_params(x, y)
        noise = torch.randn(num, len(x), self.latent_dim, dtype=Gaussian.of(h).mean.dtype, device=x.device)
        return self.draw_posterior(h, noise)

    def draw_prior(self, noise: Tensor, generator: Generators = None) -> Tensor:
        """Turn standard normal noise ``(N, latent_dim)`` into draws of p(z).

        Args:
            noise: standard normal noise, or noise of a smaller standard deviation.
            generator: generators of further random choices of the prior, such as the component of a mixture.
        """
        return self.prior.sample(noise, generator, self.gaussian)

    def log_prior(self, z: Tensor) -> Tensor:
        """Return log p(z) in nats, ``(..., D)`` to ``(...)``."""
        return self.prior.log_prob(z, self.gaussian)

    def likelihood_params(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode latents ``(B, D)`` into the parameters of p(x | z), ``(B, num_params, C, H, W)``."""
        return self.decoder(z, y).unflatten(1, (self.distribution.num_params, self.shape[0]))

    def log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | z) in nats, ``(B,)``, for latents ``(B, D)``."""
        return self.distribution.log_prob(self.likelihood_params(z, y), x).flatten(1).sum(1)

    def log_likelihood_of_many(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Return log p(x | z) in nats, ``(k, B)``, for ``k`` latents per image, ``(k, B, D)``."""
        k = len(z)
        repeated = y.repeat(k) if y is not None else None
        return self.log_likelihood(x.repeat(k, 1, 1, 1), z.flatten(0, 1), repeated).view(k, -1)

    def elbo_terms(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return log p(x | z) at one draw of z ~ q(z | x), ``(B,)``, and the KL term KL(q(z | x) || p(z)), in nats.

        The KL term is in closed form for each latent, ``(B, latent_dim)``, if q is Gaussian and p(z) is N(0, I).
        Otherwise it is log q(z | x) - log p(z) at the same draw, ``(B, 1)``.
        """
        if self._has_closed_kl:
            q = self.gaussian(x, y)
            z = q.mean + q.std * torch.randn_like(q.std)
            return self.log_likelihood(x, z, y), q.kl_to_standard()
        z, log_q = (draw.squeeze(0) for draw in self.draw(x, y))
        return self.log_likelihood(x, z, y), (log_q - self.log_prior(z)).unsqueeze(1)

    @property
    def _has_closed_kl(self) -> bool:
        return self.has_gaussian_posterior and self.prior.is_standard

    @property
    def units_per_part(self) -> int:
        """Number of latents in a part of the KL term: one if it is in closed form, else all."""
        return 1 if self._has_closed_kl else self.latent_dim

    # -- the contract --------------------------------------------------------------------------------------------------

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set the decoder's last bias to the distribution of the pixels in ``x``, as in arXiv:1509.00519.

        Also initialize the posterior's rows of the encoder's last layer, and what the encoder and the prior take from
        the data, such as the mean of the images.
        """
        self.encoder.initialize(x)
        self.posterior.initialize(self.encoder.last)
        self.prior.initialize(x)
        fit_bias(self.decoder.last, self.distribution, x)

    def prepare(self, images_seen: int) -> None:
        self.objective.prepare(images_seen)

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        return self.objective(self, x, y)

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        log_likelihood, kl = self.elbo_terms(x, y)
        return log_likelihood - kl.sum(1)

    @torch.no_grad()
    def importance_weighted(
        self, x: Tensor, y: Tensor | None = None, *, num_samples: int = 5000, chunk_size: int | None = None
    ) -> Tensor:
        """Return the bound of Importance Weighted Autoencoders (arXiv:1509.00519), in nats, ``(B,)``.

        The bound is log 1/k sum_i p(x, z_i) / q(z_i | x), where the z_i are k draws from q(z | x).

        Args:
            x: images ``(B, C, H, W)``.
            y: their classes, int64 ``(B,)``.
            num_samples: number of draws per image, k.
            chunk_size: number of draws per image computed at once; None chooses it so that the decoder's output has at
                most 16 million numbers (but at least one draw).
        """
        if chunk_size is None:
            chunk_size = max(1, 2**24 // (len(x) * self.num_dims * self.distribution.num_params))
        total = torch.full((len(x),), -math.inf, device=x.device)
        for first in range(0, num_samples, chunk_size):
            z, log_q = self.draw(x, y, min(chunk_size, num_samples - first))
            log_w = self.log_likelihood_of_many(x, z, y) + self.log_prior(z) - log_q
            total = torch.logaddexp(total, torch.logsumexp(log_w, 0))
        return total - math.log(num_samples)

    @torch.no_grad()
    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """Measure how much information the latents of ``N`` images carry.

        Always: ``rate`` (KL term) and ``distortion`` (-log p(x | z)) in nats, and the number of ``active_units``. If
        the posterior is Gaussian and the prior p is N(0, I), also ``kl_per_latent`` and ``aggregate_gap`` in nats: the
        latter is KL(g || p), where g is the Gaussian with the mean and covariance of the aggregate posterior.
        """

        def of_part(x: Tensor, y: Tensor | None) -> list[Tensor]:
            q = self.gaussian(x, y)
            return [*self.elbo_terms(x, y), q.mean, q.std]

        log_likelihood, kl, means, stds = in_parts(of_part, x, y)
        figures: dict[str, float | Tensor] = {
            "rate": float(kl.sum(1).mean()),
            "distortion": -float(log_likelihood.mean()),
            "active_units": float((means.var(0) > ACTIVE_VARIANCE).sum()),
        }
        if self._has_closed_kl and len(x) > 2 * self.latent_dim:
            covariance = precise(means).T.cov().view(self.latent_dim, -1) + precise(stds).square().mean(0).diag()
            mean = precise(means).mean(0)
            gap = 0.5 * (mean.square().sum() + covariance.trace() - len(mean) - torch.logdet(covariance))
            figures["aggregate_gap"] = float(gap)
            figures["kl_per_latent"] = kl.mean(0)
        return figures

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode images as the centre of the posterior (the draw at zero noise), ``(B, latent_dim)``."""
        h = self.posterior_params(x, y)
        noise = torch.zeros(1, len(x), self.latent_dim, dtype=Gaussian.of(h).mean.dtype, device=x.device)
        return self.draw_posterior(h, noise)[0].squeeze(0)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode latents to the mean images E[x | z], ``(B, C, H, W)``."""
        return self.distribution.mean(self.likelihood_params(z, y))

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        temperature = self.settings(sampling).temperature
        y = self.classes(num_samples, y, generator)
        noise = temperature * normal((num_samples, self.latent_dim), generator, self.device)
        z = self.draw_prior(noise, generator)
        if not self.sample_pixels:
            return self.decode(z, y)
        u = uniform((num_samples, *self.shape), generator, self.device)
        return self.distribution.sample(self.likelihood_params(z, y), u, temperature)

    def graph(self) -> Graph:
        """Give the decoder: latents to mean images."""
        about = f"z: latents, (B, {self.latent_dim}); x: mean images in [0, 1], (B, {', '.join(map(str, self.shape))})"
        return of_method(self, "decode", {"z": typical(2, self.latent_dim)}, ["x"], about, self.num_classes)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "x ~ p(x | z)" if self.sample_pixels else "E[x | z]"
