"""Approximate posteriors q(z | x) of a VAE: a diagonal Gaussian, and flows that transform it.

The encoder's output holds the posterior's parameters. With k draws per image, the draws are the first dimension: noise
and latents are ``(k, B, D)``, log-densities ``(k, B)`` in nats.
"""

import math
from abc import ABC, abstractmethod
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.logistic import log_sigmoid
from genlab.errors import InputError
from genlab.layers.masked_linear import AutoregressiveNet
from genlab.machine.devices import precise


class Gaussian(NamedTuple):
    """B diagonal Gaussians: means and standard deviations, ``(B, D)`` each."""

    mean: Tensor
    std: Tensor

    @classmethod
    def of(cls, h: Tensor) -> "Gaussian":
        """Build the Gaussians from an encoder's output ``(B, 2D)``: means, then log standard deviations."""
        # At least float32, even if the encoder runs in bfloat16; float64 is kept.
        mean, log_std = h.to(torch.promote_types(h.dtype, torch.float32)).chunk(2, dim=1)
        return cls(mean, log_std.clamp(-7, 7).exp())

    def log_prob(self, z: Tensor) -> Tensor:
        """Return the log-density of z ``(..., B, D)`` in nats, ``(..., B)``."""
        return self.log_prob_per_latent(z).sum(-1)

    def log_prob_per_latent(self, z: Tensor) -> Tensor:
        """Return the log-density of every latent in nats, of the shape of z, ``(..., B, D)``."""
        return -0.5 * ((z - self.mean) / self.std).square() - self.std.log() - 0.5 * math.log(2 * math.pi)

    def log_prob_each(self, z: Tensor) -> Tensor:
        """Return the log-density of points ``(N, D)`` under each of the B Gaussians, in nats, ``(N, B)``.

        It is computed by matrix products, which need no tensor ``(N, B, D)``, and in float64: the three products are
        many times as large as their sum if a Gaussian is narrow.
        """
        with torch.autocast(z.device.type, enabled=False):
            points, mean, std = precise(z), precise(self.mean), precise(self.std)
            precision = std.square().reciprocal()
            square = points.square() @ precision.T - 2 * points @ (mean * precision).T + (mean**2 * precision).sum(1)
            log_scale = std.log().sum(1) + 0.5 * math.log(2 * math.pi) * z.shape[1]
            return (-0.5 * square - log_scale).to(torch.promote_types(z.dtype, self.mean.dtype))

    def kl_to_standard(self) -> Tensor:
        """Return KL(self || N(0, I)) of each latent in nats, ``(B, D)``."""
        return 0.5 * (self.mean.square() + self.std.square() - 1) - self.std.log()

    def detach(self) -> "Gaussian":
        """Return the same Gaussians without gradients."""
        return Gaussian(self.mean.detach(), self.std.detach())


class Posterior(nn.Module, ABC):
    """A family of distributions of latents; its parameters are an encoder's output ``(B, num_params)``."""

    @abstractmethod
    def num_params(self, latent_dim: int) -> int:
        """Return the number of parameters per image, which the encoder outputs."""

    def limit(self, h: Tensor) -> Tensor:
        """Bound an encoder's output ``(B, num_params)``; every use of the posterior gets the result."""
        return h

    def initialize(self, last: nn.Linear | nn.Conv2d) -> None:
        """Initialize the rows of an encoder's last layer, ``num_params`` of them, before training."""

    @abstractmethod
    def draw(self, h: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Turn noise into latents ``(k, B, D)``, differentiable in ``h``, and log q(z | x) in nats, ``(k, B)``.

        Args:
            h: encoder's output, the parameters of the posterior, ``(B, num_params)``.
            noise: standard normal noise, ``(k, B, D)``.
        """


class DiagonalGaussian(Posterior):
    """Independent normal distributions of the latents: Auto-Encoding Variational Bayes (arXiv:1312.6114).

    Args:
        log_variance: bounds of the logarithm of the variance, beyond which the encoder's output has no effect; (-6, 2)
            in VAE with a VampPrior (arXiv:1705.07120). None for -14 and 14, which keep numbers finite.

    Raises:
        InputError: if the bounds are not two numbers from -14 to 14 in increasing order.
    """

    def __init__(self, log_variance: tuple[float, float] | None = None) -> None:
        super().__init__()
        if log_variance is not None and not -14 <= log_variance[0] < log_variance[1] <= 14:
            raise InputError(f"log_variance={list(log_variance)}: expected increasing bounds within -14 and 14")
        self.log_variance = log_variance

    def limit(self, h: Tensor) -> Tensor:
        if self.log_variance is None:
            return h
        mean, log_std = h.chunk(2, dim=1)
        low, high = self.log_variance
        return torch.cat([mean, log_std.clamp(low / 2, high / 2)], 1)

    def num_params(self, latent_dim: int) -> int:
        return 2 * latent_dim

    def draw(self, h: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        q = Gaussian.of(h)
        z = q.mean + q.std * noise
        return z, q.log_prob(z)


class PlanarFlows(Posterior):
    """A Gaussian transformed by planar maps z + u tanh(w z + b), whose u, w and b the encoder outputs.

    Source: Variational Inference with Normalizing Flows (arXiv:1505.05770), section 4.1.

    The choice of ``from_identity`` is part of the state: weights that were saved before it existed were trained with
    the paper's formula, and keep it wherever they are loaded.

    Args:
        num_flows: number of maps in sequence.
        from_identity: whether a map is the identity where u is 0, as it is before training. With the paper's formula
            instead, a map with a small w has a log-determinant of -0.37 and moves z by up to 0.31 / |w|.

    Raises:
        InputError: if ``num_flows`` is not positive.
    """

    def __init__(self, num_flows: int = 4, from_identity: bool = True) -> None:
        super().__init__()
        if num_flows < 1:
            raise InputError(f"num_flows={num_flows}: at least 1")
        self.num_flows, self.from_identity = num_flows, from_identity
        self.register_load_state_dict_pre_hook(_with_the_papers_formula)

    def get_extra_state(self) -> dict[str, bool]:
        return {"from_identity": self.from_identity}

    def set_extra_state(self, state: dict[str, bool]) -> None:
        self.from_identity = state["from_identity"]

    def num_params(self, latent_dim: int) -> int:
        return 2 * latent_dim + self.num_flows * (2 * latent_dim + 1)

    def initialize(self, last: nn.Linear | nn.Conv2d) -> None:
        """Set the rows of every u to 0, at which the maps are the identity; w stays random, and gives u gradients."""
        if not self.from_identity:
            return
        D = (len(last.weight) - self.num_flows) // (2 * self.num_flows + 2)
        with torch.no_grad():
            for parameter in last.parameters():
                for rows in parameter[2 * D :].chunk(self.num_flows):
                    rows[:D].zero_()

    def draw(self, h: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        D = noise.shape[-1]
        q = Gaussian.of(h[:, : 2 * D])
        z = q.mean + q.std * noise
        log_q = q.log_prob(z)
        # Scaled by 0.1, so that the maps stay near the identity at first, whatever the scale of an encoder's outputs.
        for params in (0.1 * h[:, 2 * D :]).to(z.dtype).chunk(self.num_flows, dim=1):
            u, w, b = params.split([D, D, 1], dim=1)
            z, log_det = planar(z, u, w, b.squeeze(1), self.from_identity)
            log_q = log_q - log_det
        return z, log_q


def _with_the_papers_formula(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Add to weights that were saved before the choice existed how they were trained."""
    state.setdefault(f"{prefix}_extra_state", {"from_identity": False})


def planar(z: Tensor, u: Tensor, w: Tensor, b: Tensor, from_identity: bool = True) -> tuple[Tensor, Tensor]:
    """Apply the planar map z' = z + û tanh(w z + b); û is u moved along w so that w û > -1, which makes it invertible.

    The condition holds because w û = m(w u), where m(a) > -1 is increasing. The paper has m(a) = log(1 + e^a) - 1. If a
    map is to start from the identity, m(a) = log(1 + (e - 1) e^a) - 1, which is 0 at 0, so that û tends to 0 with u.

    Args:
        z: latents, ``(k, B, D)``.
        u: direction of the map, ``(B, D)``.
        w: weights of the hidden unit, ``(B, D)``.
        b: bias of the hidden unit, ``(B,)``.
        from_identity: whether the map is the identity where u and w are 0.

    Returns:
        The mapped latents z', ``(k, B, D)``, and log |det dz'/dz|, ``(k, B)``.
    """
    wu, square = (w * u).sum(-1), w.square().sum(-1)
    if from_identity:
        # m(wu) - wu is of the order of wu, hence of |w|, so that no shift is left where w vanishes.
        slope = _log_mixture(wu)  # w û
        u = u + ((slope - wu) / square.clamp_min(torch.finfo(w.dtype).tiny)).unsqueeze(-1) * w
        slope = slope.clamp_min(torch.finfo(w.dtype).eps - 1)  # rounding must not make the map flat
    else:
        u = u + ((F.softplus(wu) - 1 - wu) / square.clamp_min(1e-12)).unsqueeze(-1) * w
        slope = (w * u).sum(-1)
    t = torch.tanh((z * w).sum(-1) + b)  # (k, B)
    log_det = torch.log1p((1 - t.square()) * slope)
    return z + u * t.unsqueeze(-1), log_det


def _log_mixture(a: Tensor) -> Tensor:
    """Compute log(1 + (e - 1) e^a) - 1, i.e. log(1 / e + (1 - 1 / e) e^a), without cancellation near 0."""
    share = 1 - math.exp(-1)
    below = torch.log1p(share * torch.expm1(a.clamp_max(0)))
    above = a + torch.log1p((1 - share) * torch.expm1(-a.clamp_min(0)))
    return torch.where(a < 0, below, above)


class InverseAutoregressiveFlows(Posterior):
    """A Gaussian transformed by inverse autoregressive flows.

    Source: Improved Variational Inference with Inverse Autoregressive Flow (arXiv:1606.04934), algorithm 1.

    In each flow an autoregressive network reads the latents and the encoder's context and gives a gate for each latent;
    the order of the latents is reversed between flows.

    Args:
        latent_dim: dimension of z.
        num_flows: number of flows in sequence.
        hidden: width of the two hidden layers of each autoregressive network.
        context: number of encoder outputs that all the networks read.

    Raises:
        InputError: if an option is not positive.
    """

    def __init__(self, latent_dim: int, num_flows: int = 2, hidden: int = 320, context: int = 64) -> None:
        super().__init__()
        if min(latent_dim, num_flows, hidden, context) < 1:
            raise InputError(f"num_flows={num_flows}, hidden={hidden}, context={context}: at least 1 of each")
        self.context = context
        self.nets = nn.ModuleList(AutoregressiveNet(latent_dim, [hidden, hidden], 2, context) for _ in range(num_flows))

    def num_params(self, latent_dim: int) -> int:
        return 2 * latent_dim + self.context

    def draw(self, h: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        D = noise.shape[-1]
        q, context = Gaussian.of(h[:, : 2 * D]), h[:, 2 * D :]
        z = q.mean + q.std * noise
        log_q = q.log_prob(z)
        for net in self.nets:
            z = z.flip(-1)
            m, s = net(z, context).to(z.dtype).unbind(-1)
            s = s + 1.5  # a gate that is nearly open: the flow begins near the identity
            gate = torch.sigmoid(s)
            z = gate * z + (1 - gate) * m
            log_q = log_q - log_sigmoid(s).sum(-1)
        return z, log_q
