"""A VAE with a hierarchy of latents, drawn from the coarsest to the finest: Very Deep VAEs (arXiv:2011.10650)."""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.noise import Generators, normal, uniform
from genlab.distributions.pixel import Likelihood, PixelDistribution
from genlab.errors import InputError
from genlab.layers.precision import own_precision
from genlab.layers.resampling import widths
from genlab.models.base import LikelihoodModel, given
from genlab.models.sampling import SamplingSettings
from genlab.models.vae.networks import fit_bias, with_class
from genlab.models.vae.objectives import Objective
from genlab.models.vae.posteriors import Gaussian
from genlab.models.vae.terms import Bounded

# A block is active if the KL term of its latents is more than this many nats on average.
ACTIVE_NATS = 0.01


class Block(nn.Sequential):
    """The bottleneck of the paper's figure 3: convolutions of 1x1, 3x3, 3x3 and 1x1.

    On maps with a side of 1 or 2 the 3x3 convolutions are 1x1, as they would mostly see padding.
    """

    def __init__(self, inputs: int, outputs: int, size: tuple[int, ...], last_gain: float = 1.0) -> None:
        middle = max(1, inputs // 2)
        kernel = 3 if min(size) > 2 else 1
        last = nn.Conv2d(middle, outputs, 1)
        with torch.no_grad():
            last.weight.mul_(last_gain)
        super().__init__(
            *[nn.GELU(), nn.Conv2d(inputs, middle, 1)],
            *[nn.GELU(), nn.Conv2d(middle, middle, kernel, padding=kernel // 2)],
            *[nn.GELU(), nn.Conv2d(middle, middle, kernel, padding=kernel // 2)],
            *[nn.GELU(), last],
        )


class ResidualBlock(Block):
    """A bottleneck whose output is added to its input."""

    def forward(self, h: Tensor) -> Tensor:
        return h + super().forward(h)


class Drawn(NamedTuple):
    """The latents z that one block has drawn from its posterior q, compared with its prior p.

    Attributes:
        kl: KL(q || p) in nats, ``(B,)``.
        log_ratio: log q(z) - log p(z) in nats, ``(B,)``.
        noise: z standardised by the prior's mean and standard deviation, ``(B, latent_channels, h, w)``.
    """

    kl: Tensor
    log_ratio: Tensor
    noise: Tensor


class TopDownBlock(nn.Module):
    """A block that draws latents ``(B, latent_channels, h, w)`` given all coarser ones and adds them to the features.

    Args:
        channels: channels of the features.
        latent_channels: channels of the latents.
        size: size of the features and the latents, ``(h, w)``.
        gain: initial scale of what the block adds, so that the features keep unit scale in a deep stack.
    """

    def __init__(self, channels: int, latent_channels: int, size: tuple[int, ...], gain: float) -> None:
        super().__init__()
        self.latent_shape = (latent_channels, *size)
        self.prior = Block(channels, 2 * latent_channels + channels, size, last_gain=0.0)
        self.posterior = Block(2 * channels, 2 * latent_channels, size)
        self.project = nn.Conv2d(latent_channels, channels, 1)
        self.residual = ResidualBlock(channels, channels, size, last_gain=gain)
        with torch.no_grad():
            self.project.weight.mul_(gain)

    def forward(self, h: Tensor, noise: Tensor, features: Tensor | None = None) -> tuple[Tensor, Drawn | None]:
        """Draw the latents z and add them to the features.

        Args:
            h: features from the block before, ``(B, channels, h, w)``.
            noise: standard normal noise, ``(B, latent_channels, h, w)``.
            features: the image's features at this size, to draw z from the posterior q; None draws z from the prior p.

        Returns:
            The features for the next block, ``(B, channels, h, w)``, and the latents drawn from q, None if from p.
        """
        params, more = self.prior(h).split([2 * noise.shape[1], h.shape[1]], 1)
        p = Gaussian.of(params)
        drawn = None
        if features is None:
            z = p.mean + p.std * noise
        else:
            q = Gaussian.of(self.posterior(torch.cat([h, features], 1)))
            z = q.mean + q.std * noise
            in_prior = (z - p.mean) / p.std
            log_ratio = p.std.log() - q.std.log() + 0.5 * (in_prior.square() - noise.square())
            gap = ((q.mean - p.mean) / p.std).square()
            kl = p.std.log() - q.std.log() + 0.5 * ((q.std / p.std).square() + gap - 1)
            drawn = Drawn(kl.flatten(1).sum(1), log_ratio.flatten(1).sum(1), in_prior)
        return self.residual(h + more + self.project(z.to(h.dtype))), drawn


class HierarchicalVAE(LikelihoodModel):
    """A VAE whose latents are drawn in blocks of growing size, from 1x1 up to ``latent_side`` pixels.

    The prior is p(z_1) p(z_2 | z_1) ... p(z_L | z_<L), and the posterior is the product of q(z_l | z_<l, x). Both read
    the features of the coarser latents; the posterior also reads the image's features at the block's size.

    Args:
        shape: image shape ``(C, H, W)``.
        distribution: distribution of a pixel given the latents.
        objective: loss that training minimises; it may use the lower bound only (``vae/objective=elbo``). Its free bits
            are nats per block.
        num_classes: number of classes, which the encoder and decoder see; None for an unconditional model.
        channels: channels of features up to ``latent_side``; larger features have fewer, in inverse proportion to the
            side.
        latent_channels: channels of the latents of each block.
        num_blocks: number of blocks with latents at each size.
        encoder_blocks: number of residual blocks of the encoder at each size.
        latent_side: largest side with latents; the decoder has one residual block without latents at each larger size.
        sample_pixels: whether ``sample`` draws x ~ p(x | z); otherwise it returns the mean E[x | z].

    Raises:
        InputError: if a size is not positive, or the objective needs more than the lower bound.
    """

    likelihood: Likelihood = "lower_bound"
    units_per_part = 1  # a block is one unit of free bits, however many latents it has

    def __init__(
        self,
        shape: tuple[int, int, int],
        distribution: PixelDistribution,
        objective: Objective[Bounded],
        num_classes: int | None = None,
        channels: int = 64,
        latent_channels: int = 16,
        num_blocks: int = 2,
        encoder_blocks: int = 1,
        latent_side: int = 16,
        sample_pixels: bool = False,
    ) -> None:
        super().__init__(shape, num_classes)
        if min(channels, latent_channels, num_blocks, encoder_blocks, latent_side) < 1:
            raise InputError(
                f"channels={channels}, latent_channels={latent_channels}, num_blocks={num_blocks}, "
                f"encoder_blocks={encoder_blocks}, latent_side={latent_side}: at least 1 of each"
            )
        self.objective, self.distribution, self.sample_pixels = objective, distribution, sample_pixels
        sizes = [tuple(shape[1:])]  # from the finest to the coarsest
        while max(sizes[-1]) > 1:
            sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
        base = channels * (1 << (latent_side - 1).bit_length())
        width = widths(channels, base, sizes)
        with_latents = [max(size) <= latent_side for size in sizes]
        gain = (sum(with_latents) * num_blocks) ** -0.5

        self.first = nn.Conv2d(shape[0] + (num_classes or 0), width[0], 3, padding=1)
        self.up = nn.ModuleList()  # the encoder's blocks, from the finest size to the coarsest
        for i, size in enumerate(sizes):
            blocks = [ResidualBlock(width[i], width[i], size, gain) for _ in range(encoder_blocks)]
            change = [] if i == 0 or width[i] == width[i - 1] else [nn.Conv2d(width[i - 1], width[i], 1)]
            self.up.append(nn.Sequential(*change, *blocks))
        self.sizes, self.with_latents = sizes, with_latents
        self.start = nn.Embedding(num_classes or 1, width[-1])
        self.down = nn.ModuleList()  # the decoder's blocks, from the coarsest size to the finest
        self.biases = nn.ParameterList()  # added once at each size
        for i in reversed(range(len(sizes))):
            if with_latents[i]:
                drawing = [TopDownBlock(width[i], latent_channels, sizes[i], gain) for _ in range(num_blocks)]
                self.down.append(nn.ModuleList(drawing))
            else:
                self.down.append(nn.ModuleList([ResidualBlock(width[i], width[i], sizes[i], gain)]))
            self.biases.append(nn.Parameter(torch.zeros(width[i], *sizes[i])))
        changes = [(width[i + 1], width[i]) for i in reversed(range(len(sizes) - 1))]
        self.changes = nn.ModuleList(nn.Conv2d(a, b, 1) if a != b else nn.Identity() for a, b in changes)
        self.last = nn.Conv2d(width[0], distribution.num_params * shape[0], 3, padding=1)
        self.latent_shapes = [b.latent_shape for b in self.down.modules() if isinstance(b, TopDownBlock)]
        self.latent_dim = sum(math.prod(s) for s in self.latent_shapes)
        if not isinstance(self, objective.needs):
            raise InputError("a hierarchical VAE is trained with vae/objective=elbo")
        objective.check(self)

    # -- up and down ---------------------------------------------------------------------------------------------------

    def features(self, x: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """Compute the encoder's features of images, from the coarsest size to the finest."""
        h = self.first(with_class(2 * x - 1, y, self.num_classes))
        found = []
        for i, blocks in enumerate(self.up):
            if i > 0:
                h = F.avg_pool2d(h, 2, ceil_mode=True)
            h = blocks(h)
            found.append(h)
        return found[::-1]

    def top_down(
        self, noise: Sequence[Tensor], y: Tensor | None = None, features: Sequence[Tensor] | None = None
    ) -> tuple[Tensor, list[Drawn]]:
        """Draw all latents and decode them.

        Args:
            noise: standard normal noise for every block, ``(B, *latent_shape)`` each.
            y: classes, int64 ``(B,)``, of a conditional model.
            features: images' features from the coarsest size to the finest, to draw z from q(z | x); None draws z from
                p(z).

        Returns:
            The parameters of p(x | z), ``(B, num_params, C, H, W)``, and the latents of every block drawn from q; no
            latents if they are drawn from p.
        """
        of_blocks = iter(noise)
        h = self.start(given(y) if self.num_classes is not None else noise[0].new_zeros(len(noise[0])).long())
        h = h[:, :, None, None]
        found = []
        for i, (blocks, bias) in enumerate(zip(self.down, self.biases, strict=True)):
            if i > 0:
                size = self.sizes[-1 - i]
                h = F.interpolate(self.changes[i - 1](h), scale_factor=2)[:, :, : size[0], : size[1]]
            h = h + bias.to(h.dtype)
            for block in cast(nn.ModuleList, blocks):
                if isinstance(block, TopDownBlock):
                    h, drawn = block(h, next(of_blocks), None if features is None else features[i])
                    found += [drawn] if drawn is not None else []
                else:
                    h = block(h)
        h = F.gelu(h)
        with own_precision(h, self.distribution.needs_float32):
            params = self.last(h.to(self.last.weight.dtype))
        return params.unflatten(1, (self.distribution.num_params, self.shape[0])), found

    def _noise(self, num: int, like: Tensor) -> list[Tensor]:
        dtype = torch.promote_types(like.dtype, torch.float32)
        return [torch.randn(num, *shape, dtype=dtype, device=like.device) for shape in self.latent_shapes]

    def _split(self, z: Tensor) -> list[Tensor]:
        parts = z.split([math.prod(shape) for shape in self.latent_shapes], 1)
        return [part.unflatten(1, shape) for part, shape in zip(parts, self.latent_shapes, strict=True)]

    def elbo_terms(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return log p(x | z) at one draw of z ~ q(z | x), ``(B,)``, and the KL term per block, ``(B, blocks)``.

        Both are in nats.
        """
        params, drawn = self.top_down(self._noise(len(x), x), y, self.features(x, y))
        return self._log_likelihood(params, x), torch.stack([block.kl for block in drawn], 1)

    def _log_likelihood(self, params: Tensor, x: Tensor) -> Tensor:
        return self.distribution.log_prob(params, x).flatten(1).sum(1)

    # -- the contract --------------------------------------------------------------------------------------------------

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        fit_bias(self.last, self.distribution, x)

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

        Args:
            x: images ``(B, C, H, W)``.
            y: their classes, int64 ``(B,)``.
            num_samples: number of draws per image, k.
            chunk_size: number of draws per image computed at once; None chooses it so that the finest features have at
                most 16 million numbers (but at least one draw).
        """
        if chunk_size is None:
            chunk_size = max(1, 2**24 // (len(x) * math.prod(self.sizes[0]) * self.last.in_channels))
        features = self.features(x, y)
        total = torch.full((len(x),), -math.inf, device=x.device)
        for first in range(0, num_samples, chunk_size):
            k = min(chunk_size, num_samples - first)
            many = x.repeat(k, 1, 1, 1)
            params, drawn = self.top_down(
                self._noise(len(many), x),
                None if y is None else y.repeat(k),
                [f.repeat(k, 1, 1, 1) for f in features],
            )
            log_ratio = torch.stack([block.log_ratio for block in drawn]).sum(0)
            log_w = (self._log_likelihood(params, many) - log_ratio).view(k, -1)
            total = torch.logaddexp(total, torch.logsumexp(log_w, 0))
        return total - math.log(num_samples)

    @torch.no_grad()
    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """Measure how much information the latents of ``N`` images carry.

        ``rate`` (KL term) and ``distortion`` (-log p(x | z)) are in nats; ``active_blocks`` is the number of blocks
        whose KL term is above 0.01 nats; ``kl_per_block`` is in nats, from the coarsest block to the finest.
        """
        log_likelihood, kl = self.elbo_terms(x, y)
        return {
            "rate": float(kl.sum(1).mean()),
            "distortion": -float(log_likelihood.mean()),
            "active_blocks": float((kl.mean(0) > ACTIVE_NATS).sum()),
            "kl_per_block": kl.mean(0),
        }

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode images as the means of the posteriors, standardised by their priors, ``(B, latent_dim)``.

        The coarsest block comes first. ``decode`` reads the same standardised latents, whose prior is N(0, I).
        """
        centre = self._split(torch.zeros(len(x), self.latent_dim, device=x.device))
        _, drawn = self.top_down(centre, y, self.features(x, y))
        return torch.cat([block.noise.flatten(1) for block in drawn], 1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode standardised latents ``(B, latent_dim)`` to the mean images E[x | z], ``(B, C, H, W)``."""
        return self.distribution.mean(self.top_down(self._split(z), y)[0])

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw images; the temperature multiplies the standard deviation of every prior."""
        temperature = self.settings(sampling).temperature
        y = self.classes(num_samples, y, generator)
        z = temperature * normal((num_samples, self.latent_dim), generator, self.device)
        params, _ = self.top_down(self._split(z), y)
        if not self.sample_pixels:
            return self.distribution.mean(params)
        u = uniform((num_samples, *self.shape), generator, self.device)
        return self.distribution.sample(params, u, temperature)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "x ~ p(x | z)" if self.sample_pixels else "E[x | z]"
