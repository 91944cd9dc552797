"""What a VAE is trained to minimise: the negative evidence lower bound, and its variations.

Each gives the figures of a batch: ``loss`` in bits/dim, ``nll``, minus the bound on the log-likelihood, and its parts,
in nats an image.
"""

import math
from abc import ABC, abstractmethod
from typing import ClassVar, Generic, TypeVar

import torch
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.models.vae.posteriors import Gaussian
from genlab.models.vae.terms import Bounded, LatentVariable

Model = TypeVar("Model", bound=Bounded, contravariant=True)


class Objective(nn.Module, ABC, Generic[Model]):
    """A loss of models that keep a protocol of :mod:`genlab.models.vae.terms`.

    Attributes:
        needs: the protocol, also given as the type argument; a model checks itself against it.
    """

    needs: ClassVar[type]

    @abstractmethod
    def forward(self, model: Model, x: Tensor, y: Tensor | None) -> dict[str, Tensor]: ...

    def check(self, model: Model) -> None:
        """Raise InputError for a model that keeps the protocol and cannot be trained all the same."""

    def prepare(self, images_seen: int) -> None:
        """Update what changes over training, such as weights that rise; called before each training step."""


class ELBO(Objective[Bounded]):
    """Reconstruction and ``beta`` times KL(q(z | x) || p(z)): Auto-Encoding Variational Bayes (arXiv:1312.6114), and
    with other ``beta`` the β-VAE (Higgins et al., ICLR 2017).

    Args:
        beta: weight of the KL term.
        free_bits: nats of each latent, or block of a hierarchy, on average over a batch, that cost nothing
            (arXiv:1606.04934, appendix C.8); where the KL term has no closed form, of all latents together
            ``free_bits`` times their number.
        warmup_images: training images within which the weight rises from 0 to ``beta`` (arXiv:1602.02282).
        cycle_images: the weight falls to 0 again after so many images, and rises in the first half of each such cycle
            (arXiv:1903.10145).
    """

    needs: ClassVar[type] = Bounded
    weight: Tensor

    def __init__(
        self,
        beta: float = 1.0,
        free_bits: float = 0.0,
        warmup_images: int | None = None,
        cycle_images: int | None = None,
    ) -> None:
        super().__init__()
        if beta < 0 or free_bits < 0:
            raise InputError(f"beta={beta}, free_bits={free_bits}: at least 0")
        if warmup_images is not None and cycle_images is not None:
            raise InputError("give warmup_images or cycle_images, not both: a cycle begins with a rise")
        if min(warmup_images or 1, cycle_images or 1) < 1:
            raise InputError(f"warmup_images={warmup_images}, cycle_images={cycle_images}: at least 1, or null")
        self.beta, self.free_bits = beta, free_bits
        self.warmup_images, self.cycle_images = warmup_images, cycle_images
        # On the device, and not a number of Python's, for which a compiled model would be compiled anew.
        self.register_buffer("weight", torch.tensor(float(beta)), persistent=False)

    def prepare(self, images_seen: int) -> None:
        if self.cycle_images is not None:
            share = 2 * (images_seen % self.cycle_images) / self.cycle_images
        elif self.warmup_images is not None:
            share = images_seen / self.warmup_images
        else:
            return
        self.weight.fill_(self.beta * min(1.0, share))

    def forward(self, model: Bounded, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        log_likelihood, kl = model.elbo_terms(x, y)  # (B,) and (B, D), or (B, 1)
        rate = kl.sum(1).mean()
        counted = rate
        if self.free_bits > 0:
            threshold = self.free_bits * (model.latent_dim if kl.shape[1] == 1 else 1)
            counted = kl.mean(0).clamp_min(threshold).sum()
        distortion = -log_likelihood.mean()
        figures = {
            "loss": model.bits_per_dim(distortion + self.weight * counted),
            "nll": distortion + rate,
            "reconstruction": distortion,
            "kl": rate,
        }
        if self.warmup_images is not None or self.cycle_images is not None:
            figures["kl_weight"] = self.weight.clone()
        return figures


class BetaTC(Objective[LatentVariable]):
    """The KL term in three, each with a weight: Isolating Sources of Disentanglement in VAEs (arXiv:1802.04942).

    KL(q(z | x) || p(z)), on average over x, is the mutual information of x and z, the total correlation of the latents
    and their own divergences from the prior. The aggregate posterior q(z) is that of the batch: the paper's weighted
    sampling but for a constant, which has no gradient.

    Args:
        beta: weight of the total correlation.
        alpha: of the mutual information.
        gamma: of the latents' own divergences.
    """

    needs: ClassVar[type] = LatentVariable

    def __init__(self, beta: float = 6.0, alpha: float = 1.0, gamma: float = 1.0) -> None:
        super().__init__()
        if min(alpha, beta, gamma) < 0:
            raise InputError(f"alpha={alpha}, beta={beta}, gamma={gamma}: at least 0")
        self.alpha, self.beta, self.gamma = alpha, beta, gamma

    def check(self, model: LatentVariable) -> None:
        if not model.has_gaussian_posterior:
            raise InputError("vae/objective=beta_tc needs the posterior's density at any point: vae/posterior=gaussian")

    def forward(self, model: LatentVariable, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        q = model.gaussian(x, y)
        z = q.mean + q.std * torch.randn_like(q.std)
        log_prior = model.log_prior(z)
        information, correlation, own = decomposed_kl(q, z, log_prior)
        distortion = -model.log_likelihood(x, z, y).mean()
        rate = (q.log_prob(z) - log_prior).mean()
        weighted = self.alpha * information + self.beta * correlation + self.gamma * own
        return {
            "loss": model.bits_per_dim(distortion + weighted),
            "nll": distortion + rate,
            "reconstruction": distortion,
            "kl": rate,
            "mutual_information": information,
            "total_correlation": correlation,
            "dimension_kl": own,
        }


def decomposed_kl(q: Gaussian, z: Tensor, log_prior: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mutual information, total correlation and the latents' own divergences, estimated on a batch; their sum is the
    mean of log q(z | x) - log p(z).

    Args:
        q: of B images.
        z: a draw of each, ``(B, D)``.
        log_prior: log p(z), ``(B,)``.
    """
    each = Gaussian(q.mean.unsqueeze(0), q.std.unsqueeze(0)).log_prob_per_latent(z.unsqueeze(1))  # (z, x, D)
    log_q = torch.logsumexp(each.sum(2), 1) - math.log(len(z))
    log_q_own = (torch.logsumexp(each, 1) - math.log(len(z))).sum(1)
    information = q.log_prob(z) - log_q
    return information.mean(), (log_q - log_q_own).mean(), (log_q_own - log_prior).mean()


class InfoVAE(Objective[LatentVariable]):
    """The KL term traded for the distance of the aggregate posterior to the prior: InfoVAE (arXiv:1706.02262).

    Reconstruction + (1 - alpha) KL(q(z | x) || p(z)) + (alpha + scale - 1) MMD²(q(z), p(z)), where the kernel of the
    maximum mean discrepancy is the inverse multiquadratic of Wasserstein autoencoders (arXiv:1711.01558).

    Args:
        alpha: 1 leaves the KL term out (MMD-VAE), 0 adds to it.
        scale: lambda of the paper.
    """

    needs: ClassVar[type] = LatentVariable

    def __init__(self, alpha: float = 0.9, scale: float = 1000.0) -> None:
        super().__init__()
        if not 0 <= alpha <= 1 or scale < 0:
            raise InputError(f"alpha={alpha}, scale={scale}: alpha in [0, 1], scale at least 0")
        self.alpha, self.scale = alpha, scale

    def forward(self, model: LatentVariable, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        z, log_q = model.draw(x, y)
        distortion = -model.log_likelihood(x, z[0], y).mean()
        rate = (log_q[0] - model.log_prior(z[0])).mean()
        prior = model.draw_prior(torch.randn_like(z[0]))
        distance = mmd2(z[0], prior)
        weighted = (1 - self.alpha) * rate + (self.alpha + self.scale - 1) * distance
        return {
            "loss": model.bits_per_dim(distortion + weighted),
            "nll": distortion + rate,
            "reconstruction": distortion,
            "kl": rate,
            "mmd2": distance,
        }


def mmd2(a: Tensor, b: Tensor) -> Tensor:
    """Squared maximum mean discrepancy of samples ``(N, D)`` and ``(M, D)``, unbiased, so that it may be below 0.

    Kernel: C / (C + |a - b|²) with C = 2 D, the expected squared distance of two draws of N(0, I).
    """
    C = 2 * a.shape[1]

    def kernel(u: Tensor, v: Tensor) -> Tensor:
        return C / (C + torch.cdist(u, v, compute_mode="donot_use_mm_for_euclid_dist").square())

    def within(u: Tensor) -> Tensor:
        n = len(u)
        k = C / (C + (u.unsqueeze(0) - u.unsqueeze(1)).square().sum(2))  # cdist has no gradient at distance 0
        return (k.sum() - n) / max(1, n * (n - 1))

    return within(a) + within(b) - 2 * kernel(a, b).mean()


class IWAE(Objective[LatentVariable]):
    """The importance-weighted bound of k draws: Importance Weighted Autoencoders (arXiv:1509.00519).

    Args:
        k: draws an image.
        doubly_reparameterized: the encoder's gradient of lower variance, unbiased as well: Doubly Reparameterized
            Gradient Estimators for Monte Carlo Objectives (arXiv:1810.04152).
        backward_draws: draws that gradients are computed of, chosen with the probabilities of their weights, for
            gradients that are unbiased still and cost less (section 3 of the paper, where it is one); ``None`` for all.
    """

    needs: ClassVar[type] = LatentVariable

    def __init__(self, k: int = 5, doubly_reparameterized: bool = False, backward_draws: int | None = None) -> None:
        super().__init__()
        if k < 1:
            raise InputError(f"k={k}: at least 1 draw")
        if backward_draws is not None and not 1 <= backward_draws < k:
            raise InputError(f"backward_draws={backward_draws}: of k={k}, from 1 to {k - 1}, or null for all")
        if backward_draws is not None and doubly_reparameterized:
            raise InputError("doubly_reparameterized needs every draw's gradient: backward_draws=null")
        self.k, self.doubly_reparameterized, self.backward_draws = k, doubly_reparameterized, backward_draws

    def check(self, model: LatentVariable) -> None:
        if self.doubly_reparameterized and not model.has_gaussian_posterior:
            raise InputError("objective.doubly_reparameterized needs the posterior's density: vae/posterior=gaussian")

    def forward(self, model: LatentVariable, x: Tensor, y: Tensor | None) -> dict[str, Tensor]:
        h = model.posterior_params(x, y)
        noise = torch.randn(self.k, len(x), model.latent_dim, device=x.device)
        if self.backward_draws is not None:
            return self._resampled(model, x, y, h, noise, self.backward_draws)
        z, log_q = model.draw_posterior(h, noise)
        if self.doubly_reparameterized:
            log_q = Gaussian.of(h).detach().log_prob(z)
        if self.doubly_reparameterized and z.requires_grad:
            weights: list[Tensor] = []
            # What reaches the encoder through z is weighted once more: by the squares of the weights in all.
            z.register_hook(lambda gradient: gradient * weights[0].unsqueeze(-1))
        log_likelihood = model.log_likelihood_of_many(x, z, y)
        log_ratio = log_q - model.log_prior(z)
        log_w = log_likelihood - log_ratio  # (k, B)
        bound = (torch.logsumexp(log_w, 0) - math.log(self.k)).mean()
        loss = bound
        if self.doubly_reparameterized:
            normalized = torch.softmax(log_w, 0).detach()
            if z.requires_grad:
                weights.append(normalized)
            surrogate = (normalized * log_w).sum(0).mean()
            loss = bound.detach() + surrogate - surrogate.detach()  # the bound, with another gradient
        return {
            "loss": model.bits_per_dim(-loss),
            "nll": -bound,
            "reconstruction": -log_likelihood.mean(),
            "kl": log_ratio.mean(),
        }

    def _resampled(
        self, model: LatentVariable, x: Tensor, y: Tensor | None, h: Tensor, noise: Tensor, num: int
    ) -> dict[str, Tensor]:
        """The bound of all draws, with the gradient of ``num`` of them."""

        def weighed(noise: Tensor) -> tuple[Tensor, Tensor]:
            z, log_q = model.draw_posterior(h, noise)
            return model.log_likelihood_of_many(x, z, y), log_q - model.log_prior(z)

        with torch.no_grad():
            log_likelihood, log_ratio = weighed(noise)
            log_w = log_likelihood - log_ratio  # (k, B)
            bound = (torch.logsumexp(log_w, 0) - math.log(self.k)).mean()
            chosen = systematic(torch.softmax(log_w, 0), num)  # (num, B)
        again, its_ratio = weighed(noise.gather(0, chosen.unsqueeze(-1).expand(-1, -1, noise.shape[-1])))
        surrogate = (again - its_ratio).mean()
        return {
            "loss": model.bits_per_dim(surrogate.detach() - surrogate - bound),  # the bound, with another gradient
            "nll": -bound,
            "reconstruction": -log_likelihood.mean(),
            "kl": log_ratio.mean(),
        }


def systematic(weights: Tensor, num: int) -> Tensor:
    """Indices ``(num, B)`` of draws whose weights ``(k, B)`` sum to 1, each chosen ``num`` times its weight on average;
    at even distances from one random start, which leaves less to chance than independent choices."""
    start = torch.rand(1, weights.shape[1], device=weights.device)
    points = (torch.arange(num, device=weights.device).unsqueeze(1) + start) / num
    # Counted, not searched, for columns: how many draws end before the point. The last sum may miss 1 by rounding.
    ends = weights.cumsum(0)
    return (ends.unsqueeze(0) <= points.unsqueeze(1)).sum(1).clamp_max(len(weights) - 1)
