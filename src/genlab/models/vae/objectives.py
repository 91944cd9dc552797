"""Training objectives of VAEs: the negative evidence lower bound and its variations.

Each returns scalars of a batch: ``loss`` in bits/dim; ``nll``, minus the lower bound on the log-likelihood, and its
parts, in nats per image.
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
    """A loss for models that implement a protocol of :mod:`genlab.models.vae.terms`.

    Attributes:
        needs: the protocol, which is also the type argument; a model checks that it implements it.
    """

    needs: ClassVar[type]

    @abstractmethod
    def forward(self, model: Model, x: Tensor, y: Tensor | None) -> dict[str, Tensor]: ...

    def check(self, model: Model) -> None:
        """Raise InputError if the model implements the protocol but still cannot be trained with this objective."""

    def prepare(self, images_seen: int) -> None:
        """Update what changes during training, such as the weight of the KL term; called before each training step."""


class ELBO(Objective[Bounded]):
    """The negative evidence lower bound: reconstruction error plus ``beta`` times KL(q(z | x) || p(z)).

    With ``beta`` 1 it is Auto-Encoding Variational Bayes (arXiv:1312.6114), with other values the β-VAE (Higgins et
    al., ICLR 2017).

    Args:
        beta: weight of the KL term.
        free_bits: nats per latent (or per block of a hierarchy), averaged over a batch, below which the KL term is not
            penalised (arXiv:1606.04934, appendix C.8). If the KL term has no closed form, it is a single part, whose
            threshold is ``free_bits`` times the number of latents; the model says so (``units_per_part``).
        warmup_images: number of training images over which the weight rises from 0 to ``beta`` (arXiv:1602.02282);
            None for no warm-up.
        cycle_images: number of training images in a cycle: the weight starts at 0, rises to ``beta`` in the first half
            and stays there in the second (arXiv:1903.10145); None for no cycles.

    Raises:
        InputError: if an option is out of its range, or both a warm-up and cycles are given.
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
        if any(images is not None and images < 1 for images in (warmup_images, cycle_images)):
            raise InputError(f"warmup_images={warmup_images}, cycle_images={cycle_images}: at least 1, or null")
        self.beta, self.free_bits = beta, free_bits
        self.warmup_images, self.cycle_images = warmup_images, cycle_images
        # A tensor, because a Python number that changes would make torch.compile recompile the model.
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
        log_likelihood, kl = model.elbo_terms(x, y)  # (B,) and (B, parts)
        rate = kl.sum(1).mean()
        counted = rate
        if self.free_bits > 0:
            counted = kl.mean(0).clamp_min(self.free_bits * model.units_per_part).sum()
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
    """The β-TCVAE loss, with a weight for each of three parts of the KL term.

    Source: Isolating Sources of Disentanglement in Variational Autoencoders (arXiv:1802.04942).

    Averaged over x, KL(q(z | x) || p(z)) is the sum of the mutual information of x and z, the total correlation of the
    latents, and the KL divergences KL(q(z_j) || p(z_j)) of the single latents. Here q(z) is the mean of the posteriors
    of the B images of the batch. This has the gradients of the paper's minibatch weighted sampling, whose values differ
    by multiples of log N, N being the number of training images. The logged ``mutual_information`` and
    ``total_correlation`` are therefore those of z and the images of one batch: the first cannot exceed log B nats,
    however much z tells about all images.

    Args:
        beta: weight of the total correlation.
        alpha: weight of the mutual information.
        gamma: weight of the KL divergences of the single latents.

    Raises:
        InputError: if a weight is negative.
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
    """Estimate the three parts of the KL term on a batch, in nats; their sum is the mean of log q(z | x) - log p(z).

    They are those of the batch's own aggregate posterior, the mean of its B posteriors.

    Args:
        q: posteriors of B images.
        z: one draw from each posterior, ``(B, D)``.
        log_prior: log p(z) of these draws, ``(B,)``.

    Returns:
        The mutual information of z and the image's place in the batch, which is at most log B; the total correlation;
        and the sum of the single latents' KL divergences.
    """
    each = Gaussian(q.mean.unsqueeze(0), q.std.unsqueeze(0)).log_prob_per_latent(z.unsqueeze(1))  # (z, x, D)
    log_q = torch.logsumexp(each.sum(2), 1) - math.log(len(z))
    log_q_own = (torch.logsumexp(each, 1) - math.log(len(z))).sum(1)
    information = q.log_prob(z) - log_q
    return information.mean(), (log_q - log_q_own).mean(), (log_q_own - log_prior).mean()


class InfoVAE(Objective[LatentVariable]):
    """The loss of InfoVAE (arXiv:1706.02262), which replaces the KL term, or part of it, by an MMD.

    The loss is reconstruction + (1 - alpha) KL(q(z | x) || p(z)) + (alpha + scale - 1) MMD²(q(z), p(z)). The kernel of
    the maximum mean discrepancy is the inverse multiquadratic of Wasserstein autoencoders (arXiv:1711.01558).

    Args:
        alpha: weight that is taken from the KL term, in [0, 1]: 0 keeps the whole KL term, 1 removes it (MMD-VAE).
        scale: lambda of the paper, at least 0.

    Raises:
        InputError: if an option is out of its range.
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
    """Estimate the squared maximum mean discrepancy between samples ``(N, D)`` and ``(M, D)``.

    The estimate is unbiased, so it can be negative. The kernel is C / (C + |a - b|²) with C = 2 D, the expected squared
    distance of two draws from N(0, I).
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
    """The negative importance-weighted bound with k draws: Importance Weighted Autoencoders (arXiv:1509.00519).

    Args:
        k: number of draws per image.
        doubly_reparameterized: whether the encoder's gradient is the estimator of Doubly Reparameterized Gradient
            Estimators for Monte Carlo Objectives (arXiv:1810.04152), which is unbiased and has a lower variance.
        backward_draws: number of draws per image to backpropagate through, chosen with probabilities equal to their
            normalised weights. The gradient stays unbiased and costs less (arXiv:1509.00519, section 3, with one
            draw). None for all draws.

    Raises:
        InputError: if an option is out of its range, or both gradient estimators are chosen.
    """

    needs: ClassVar[type] = LatentVariable

    def __init__(self, k: int = 5, doubly_reparameterized: bool = False, backward_draws: int | None = None) -> None:
        super().__init__()
        if k < 1:
            raise InputError(f"k={k}: at least 1 draw")
        if backward_draws is not None and not 1 <= backward_draws < k:
            raise InputError(f"backward_draws={backward_draws}: expected 1 to {k - 1} of the k={k}, or null for all")
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
            # The gradient that reaches the encoder through z is weighted once more, so by the squared weights in total.
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
            loss = bound.detach() + surrogate - surrogate.detach()  # the value of the bound, the surrogate's gradient
        return {
            "loss": model.bits_per_dim(-loss),
            "nll": -bound,
            "reconstruction": -log_likelihood.mean(),
            "kl": log_ratio.mean(),
        }

    def _resampled(
        self, model: LatentVariable, x: Tensor, y: Tensor | None, h: Tensor, noise: Tensor, num: int
    ) -> dict[str, Tensor]:
        """Compute the bound from all draws, but its gradient from ``num`` of them only."""

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
            "loss": model.bits_per_dim(surrogate.detach() - surrogate - bound),  # -bound, the surrogate's gradient
            "nll": -bound,
            "reconstruction": -log_likelihood.mean(),
            "kl": log_ratio.mean(),
        }


def systematic(weights: Tensor, num: int) -> Tensor:
    """Choose draws by systematic resampling; each is chosen ``num`` times its weight on average.

    The points of choice are evenly spaced from one random start, which has a lower variance than independent choices.

    Args:
        weights: weights of k draws for each of B images, ``(k, B)``, which sum to 1 over the draws.
        num: number of draws to choose per image.

    Returns:
        Indices of the chosen draws, int64 ``(num, B)``.
    """
    start = torch.rand(1, weights.shape[1], device=weights.device)
    points = (torch.arange(num, device=weights.device).unsqueeze(1) + start) / num
    # The index of a point is the number of draws that end before it; searchsorted would need rows, not columns. The
    # clamp is for a last sum that rounding leaves below 1.
    ends = weights.cumsum(0)
    return (ends.unsqueeze(0) <= points.unsqueeze(1)).sum(1).clamp_max(len(weights) - 1)
