"""DDPM: data with noise added in many small steps, which a network learns to undo."""

import math
from typing import ClassVar, Literal

import torch
from torch import Tensor

from genlab.distributions.pixel import Likelihood
from genlab.errors import InputError
from genlab.machine.devices import finest, precise
from genlab.models.adversarial import given
from genlab.models.base import LikelihoodModel
from genlab.models.diffusion.diffusion_model import DiffusionModel, NetworkFactory, Solver
from genlab.models.diffusion.paths import Path, scaled

Variance = Literal["small", "large"]


class Chain(Path):
    """The path of a Markov chain of T steps, each of which shrinks the data and adds noise of variance beta.

    The state after k steps belongs to the time ``1 - k / T``; other times belong to the nearest state. There is no
    velocity between states.

    Args:
        betas: variances of the steps, float64 ``(T,)``, in (0, 1).
    """

    def __init__(self, betas: Tensor) -> None:
        self.num_steps = len(betas)
        # The share of the data's variance that is left after k steps, from k = 0.
        self.alpha_bar = torch.cat([torch.ones(1, dtype=torch.float64), (1 - betas).cumprod(0)])

    def state(self, t: Tensor) -> Tensor:
        """Give the number of steps from the data to the state of each time, int64 ``(B,)``."""
        return ((1 - t) * self.num_steps).round().long()

    def time(self, k: Tensor) -> Tensor:
        """Give the times of states, float32 ``(B,)``."""
        return (1 - k / self.num_steps).float()

    def _left(self, t: Tensor) -> Tensor:
        return self.alpha_bar.to(finest(t.device)).to(t.device)[self.state(t)]

    def alpha(self, t: Tensor) -> Tensor:
        return self._left(t).sqrt()

    def sigma(self, t: Tensor) -> Tensor:
        return (1 - self._left(t)).sqrt()

    def start(self, strength: float) -> float:
        return 1 - max(round(strength * self.num_steps), 1) / self.num_steps

    def times(self, num_steps: int) -> Tensor:
        if num_steps > self.num_steps:
            raise InputError(f"num_steps={num_steps}: the chain has {self.num_steps} steps")
        states = (torch.linspace(1, 0, num_steps + 1, dtype=torch.float64) * self.num_steps).round()
        return 1 - states / self.num_steps


class DDPM(DiffusionModel, LikelihoodModel):
    """Denoising Diffusion Probabilistic Models (arXiv:2006.11239).

    ``x_k = sqrt(alpha_bar_k) x + sqrt(1 - alpha_bar_k) e`` after k of T steps. The network predicts e; the loss is its
    mean squared error, ``L_simple`` of the paper, and not the bound. Samples undo the chain, all steps or some.

    ``log_prob`` estimates the variational bound, equation 5: the terms of ``bound_steps`` states for each example,
    spread evenly over the chain, each with one draw of the noise. The mean over draws is the sum of all terms.

    Args:
        shape: shape of an example, ``(C, H, W)`` or ``(D,)``.
        networks: function that builds the network, such as ``genlab.networks.unet.UNet`` with its options set.
        num_classes: number of classes; None for an unconditional model.
        levels: number of grey levels of images; None for points.
        label_dropout: share of training examples whose class is hidden, in [0, 1).
        chain: number of steps T.
        beta_first: variance of the first step.
        beta_last: variance of the last step; those between lie on a line.
        variance: variance of a step back: "large" is that of the step, "small" that of its posterior given the data.
        num_steps: default of the sampling setting of this name.
        solver: default of the sampling setting of this name; ``ddpm`` is the paper's.
        bound_steps: number of states whose terms are computed for each example; None for all T, as in the paper.

    Raises:
        InputError: if an option is out of its range, or the network is not for the shape.
    """

    available: ClassVar[tuple[Solver, ...]] = ("ddim", "ddpm", "dpm_solver_pp")
    likelihood: Likelihood = "lower_bound"

    def __init__(
        self,
        shape: tuple[int, ...],
        networks: NetworkFactory,
        num_classes: int | None = None,
        levels: int | None = 256,
        label_dropout: float = 0.1,
        chain: int = 1000,
        beta_first: float = 1e-4,
        beta_last: float = 0.02,
        variance: Variance = "large",
        num_steps: int = 50,
        solver: Solver = "ddim",
        bound_steps: int | None = 10,
    ) -> None:
        if chain < 2 or not 0 < beta_first <= beta_last < 1:
            raise InputError(
                f"chain={chain}, beta_first={beta_first}, beta_last={beta_last}: expected at least 2 steps, and "
                "0 < beta_first <= beta_last < 1"
            )
        if variance not in ("small", "large"):
            raise InputError(f"variance={variance}: choose small or large")
        if bound_steps is not None and not 1 <= bound_steps <= chain:
            raise InputError(f"bound_steps={bound_steps}: expected 1 to {chain}, or null for all")
        betas = torch.linspace(beta_first, beta_last, chain, dtype=torch.float64)
        self.chain: Chain
        super().__init__(shape, networks, Chain(betas), num_classes, levels, label_dropout)
        assert isinstance(self.path, Chain)
        self.chain = self.path
        self.large_variance, self.bound_steps = variance == "large", bound_steps
        self.sampling = self.Sampling(num_steps=num_steps, solver=solver)

    @property
    def discrete(self) -> bool:  # type: ignore[override]
        """Tell whether the data is discrete: images are, points are not."""
        return self.of_images

    @property
    def most_scored(self) -> int | None:  # type: ignore[override]
        return 2000 if self.of_images else None

    @property
    def likelihood_details(self) -> dict[str, object]:
        return {"terms": self.bound_steps or self.chain.num_steps}

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the mean squared error of the predicted noise, for one state of each example."""
        y = self.training_classes(y)
        h = self.to_inner(x)
        num = len(h)
        u = (torch.randperm(num, device=h.device) + torch.rand(num, device=h.device)) / num  # stratified
        k = 1 + (u * self.chain.num_steps).long().clamp(max=self.chain.num_steps - 1)
        noise, t = torch.randn_like(h), self.chain.time(k)
        return {"loss": (self._noise(self.path.at(h, noise, t), t, y) - noise).square().mean()}

    def _noise(self, h: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.network(h, t.unsqueeze(1), y).to(h.dtype)

    def denoise(self, h: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Predict the data, for images within [-1, 1], and the noise that belongs to it."""
        a, s = self.path.alpha(t), self.path.sigma(t)
        data = scaled(1 / a, h - scaled(s, self._noise(h, t.to(h.dtype), y)))
        data = data.clamp(-1, 1) if self.of_images else data
        return data, scaled(1 / s, h - scaled(a, data))

    # -- the bound -----------------------------------------------------------------------------------------------------

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Estimate the variational bound on the log-likelihood in nats, ``(B,)``.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        y = given(y) if self.num_classes is not None else None
        with torch.autocast(x.device.type, enabled=False):
            h = self.to_inner(x)
            T = self.chain.num_steps
            num = self.bound_steps or T
            total = torch.zeros(len(h), dtype=finest(h.device), device=h.device)
            first = torch.rand(len(h), device=h.device)  # the same places in each of num equal parts of the chain
            for i in range(num):
                k = 1 + ((i + first) * T / num).long().clamp(max=T - 1)
                total += self._term(h, k, y)
            ends = torch.zeros(len(h), device=h.device)
            a, s = self.path.alpha(ends), self.path.sigma(ends)
            of_prior = _kl(scaled(a, precise(h)), s**2, precise(torch.zeros_like(h)), torch.ones_like(s))
            bound = -total * T / num - of_prior
            # Densities of points are those of the data, not of what has variance 1.
            return (bound if self.of_images else bound - precise(self.std.expand(self.shape)).log().sum()).to(h.dtype)

    def _term(self, h: Tensor, k: Tensor, y: Tensor | None) -> Tensor:
        """Compute the term of the step back from state k, in nats, float64 ``(B,)``; that of k = 1 gives the data."""
        left = self.chain.alpha_bar.to(finest(h.device)).to(h.device)
        now, before = left[k], left[k - 1]
        beta = 1 - now / before
        posterior = beta * (1 - before) / (1 - now)
        t = self.chain.time(k)
        noisy = self.path.at(h, torch.randn_like(h), t)
        data, _ = self.denoise(noisy, t, y)
        of_data, of_noisy = before.sqrt() * beta / (1 - now), (now / before).sqrt() * (1 - before) / (1 - now)
        mean = scaled(of_data, precise(data)) + scaled(of_noisy, precise(noisy))
        target = scaled(of_data, precise(h)) + scaled(of_noisy, precise(noisy))
        # The posterior of the first step has no variance; the authors take that of the second.
        second = left[2] if self.chain.num_steps > 1 else left[1]
        least = (1 - second / left[1]) * (1 - left[1]) / (1 - second)
        variance = beta if self.large_variance else torch.where(k == 1, least, posterior)
        divergence = _kl(target, posterior, mean, variance)
        return torch.where(k == 1, -self._log_of_data(precise(h), mean, variance), divergence)

    def _log_of_data(self, h: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
        """Compute the log-probability of grey levels, or the log-density of points, under a normal distribution."""
        std = variance.sqrt().view(-1, *[1] * (h.ndim - 1))
        if not self.of_images:
            return (-0.5 * ((h - mean) / std).square() - std.log() - 0.5 * math.log(2 * math.pi)).flatten(1).sum(1)
        half = 1 / (self.levels - 1)  # half the distance of two levels; the outermost reach to infinity
        upper = torch.where(h > 1 - half, torch.inf, (h + half - mean) / std)
        lower = torch.where(h < half - 1, -torch.inf, (h - half - mean) / std)
        # On the side where the normal distribution's tail is small, so that differences keep their digits.
        swap = upper + lower > 0
        high, low = torch.where(swap, -lower, upper), torch.where(swap, -upper, lower)
        log_high, log_low = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
        return (log_high + torch.log1p(-torch.exp((log_low - log_high).clamp(max=-1e-12)))).flatten(1).sum(1)


def _kl(mean: Tensor, variance: Tensor, other_mean: Tensor, other_variance: Tensor) -> Tensor:
    """Compute the divergence of normal distributions in nats, ``(B,)``; variances are ``(B,)``, 0 only where unused."""
    ratio = (variance / other_variance).clamp_min(1e-300)
    squares = scaled(1 / other_variance, (mean - other_mean).square()).flatten(1).sum(1)
    return 0.5 * (squares + mean[0].numel() * (ratio - 1 - ratio.log()))
