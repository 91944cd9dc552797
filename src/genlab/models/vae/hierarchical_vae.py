"""A VAE with a hierarchy of latents, drawn from the coarsest to the finest: Very Deep VAEs (arXiv:2011.10650)."""

import math
from collections.abc import Sequence
from typing import NamedTuple, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.colour import SeparateChannels, jointly
from genlab.distributions.noise import Generators, normal, uniform
from genlab.distributions.pixel import Likelihood, PixelDistribution
from genlab.errors import InputError
from genlab.layers.precision import own_precision
from genlab.layers.resampling import widths
from genlab.models.adversarial import given
from genlab.models.base import LikelihoodModel
from genlab.models.graph import Graph, of_method, typical
from genlab.models.in_parts import in_parts
from genlab.models.sampling import SamplingSettings
from genlab.models.vae.block_layout import Layout, halved, written
from genlab.models.vae.networks import with_class
from genlab.models.vae.objectives import Objective
from genlab.models.vae.posteriors import Gaussian
from genlab.models.vae.terms import Bounded

# A block is active if the KL term of its latents is more than this many nats on average.
ACTIVE_NATS = 0.01


class Block(nn.Sequential):
    """The bottleneck of the paper's figure 3: convolutions of 1x1, 3x3, 3x3 and 1x1.

    On maps with a side of 1 or 2 the 3x3 convolutions are 1x1, as they would mostly see padding.

    Args:
        inputs: channels that it reads.
        outputs: channels of its output.
        size: size of the features, ``(h, w)``.
        middle: channels of the 3x3 convolutions; None for half of ``inputs``.
        last_gain: factor on the initial weights of the last convolution.
    """

    def __init__(
        self, inputs: int, outputs: int, size: tuple[int, ...], middle: int | None = None, last_gain: float = 1.0
    ) -> None:
        middle = max(1, inputs // 2) if middle is None else middle
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
        middle: channels of the 3x3 convolutions; None for half of what each bottleneck reads.
    """

    def __init__(
        self, channels: int, latent_channels: int, size: tuple[int, ...], gain: float, middle: int | None = None
    ) -> None:
        super().__init__()
        self.latent_shape = (latent_channels, *size)
        self.prior = Block(channels, 2 * latent_channels + channels, size, middle, last_gain=0.0)
        self.posterior = Block(2 * channels, 2 * latent_channels, size, middle)
        self.project = nn.Conv2d(latent_channels, channels, 1)
        self.residual = ResidualBlock(channels, channels, size, middle, last_gain=gain)
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


class ChannelAffine(nn.Module):
    """A gain and a bias for each channel of features ``(B, channels, H, W)``, which begin as the identity."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gain = nn.Parameter(torch.ones(channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, h: Tensor) -> Tensor:
        return h * self.gain + self.bias


class HierarchicalVAE(LikelihoodModel):
    """A VAE whose latents are drawn in blocks of growing size, from 1x1 up to the image's size or less.

    The prior is p(z_1) p(z_2 | z_1) ... p(z_L | z_<L), and the posterior is the product of q(z_l | z_<l, x). Both read
    the features of the coarser latents; the posterior also reads the image's features at the block's size.

    The defaults are a small network. The paper's has ``encoder_blocks`` and ``num_blocks`` in its notation, a
    ``bottleneck`` of a quarter, ``joint``, ``affine_output`` and ``zero_biases``, as in
    ``experiment=paper/cifar10_vd_vae``.

    Args:
        shape: image shape ``(C, H, W)``.
        distribution: distribution of a pixel given the latents.
        objective: loss that training minimises; it may use the lower bound only (``vae/objective=elbo``). Its free bits
            are nats per block.
        num_classes: number of classes, which the encoder and decoder see; None for an unconditional model.
        channels: channels of features up to ``latent_side``; larger features have fewer, in inverse proportion to the
            side.
        latent_channels: channels of the latents of each block.
        num_blocks: number of blocks with latents at each size, where sizes are halved; or all blocks in the paper's
            notation, such as ``1x1,4m1,4x2``: see :func:`~genlab.models.vae.block_layout.written`.
        encoder_blocks: number of residual blocks of the encoder at each size, or all of them in the paper's notation,
            such as ``4x3,4d4,1x3``; given so if and only if ``num_blocks`` is.
        latent_side: largest side with latents; the decoder has one residual block without latents at each larger size.
            In the paper's notation every block has latents, and all sizes have ``channels`` channels.
        sample_pixels: whether ``sample`` draws x ~ p(x | z); otherwise it returns the mean E[x | z].
        bottleneck: channels between the convolutions of a bottleneck, as a share of the features' channels; None for
            half of what each bottleneck reads.
        joint: whether the channels of a pixel are one mixture of logistics with linear coefficients between them, as in
            PixelCNN++; otherwise they are independent given the latents.
        affine_output: whether features are mapped to the parameters of pixels by a gain and a bias for each channel and
            a 1x1 convolution; otherwise by GELU and a 3x3 convolution.
        zero_biases: whether the biases of all convolutions begin at 0.

    Raises:
        InputError: if a size is not positive, the numbers of blocks cannot be read, the distribution cannot model
            several channels jointly, or the objective needs more than the lower bound.
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
        num_blocks: int | str = 2,
        encoder_blocks: int | str = 1,
        latent_side: int = 16,
        sample_pixels: bool = False,
        bottleneck: float | None = None,
        joint: bool = False,
        affine_output: bool = False,
        zero_biases: bool = False,
    ) -> None:
        super().__init__(shape, num_classes)
        layout = self._lay_out(channels, latent_channels, num_blocks, encoder_blocks, latent_side)
        if bottleneck is not None and not 0 < bottleneck <= 1:
            raise InputError(f"bottleneck={bottleneck}: expected a share of the channels above 0, at most 1, or null")
        self.objective, self.distribution, self.sample_pixels = objective, distribution, sample_pixels
        self.pixel = jointly(shape[0], distribution) if joint else SeparateChannels(distribution, shape[0])
        sizes, self.rates = layout.sizes, layout.rates
        as_listed = isinstance(num_blocks, str)
        base = channels * max(sizes[0]) if as_listed else channels * (1 << (latent_side - 1).bit_length())
        width = [channels] * len(sizes) if as_listed else widths(channels, base, sizes)
        middle = [None if bottleneck is None else max(1, int(bottleneck * w)) for w in width]
        of_encoder, of_decoder = layout.encoder_gain, layout.decoder_gain

        def residual(i: int, gain: float) -> ResidualBlock:
            return ResidualBlock(width[i], width[i], sizes[i], middle[i], gain)

        self.first = nn.Conv2d(shape[0] + (num_classes or 0), width[0], 3, padding=1)
        self.up = nn.ModuleList()  # the encoder's blocks, from the finest size to the coarsest
        self.lowering = nn.ModuleList()  # its blocks after the features at a size have been read, before they shrink
        for i in range(len(sizes)):
            change = [] if i == 0 or width[i] == width[i - 1] else [nn.Conv2d(width[i - 1], width[i], 1)]
            self.up.append(nn.Sequential(*change, *[residual(i, of_encoder) for _ in range(layout.encoder[i])]))
            self.lowering.append(residual(i, of_encoder) if layout.lowering[i] else nn.Identity())
        self.sizes, self.with_latents = sizes, layout.with_latents
        # In the paper, the features begin as the bias of the coarsest size alone.
        self.start = nn.Embedding(num_classes or 1, width[-1]) if num_classes is not None or not as_listed else None
        self.down = nn.ModuleList()  # the decoder's blocks, from the coarsest size to the finest
        self.biases = nn.ParameterList()  # added once at each size
        for i in reversed(range(len(sizes))):
            blocks: list[nn.Module] = []
            for _ in range(layout.decoder[i]):
                if layout.with_latents[i]:
                    blocks.append(TopDownBlock(width[i], latent_channels, sizes[i], of_decoder, middle[i]))
                else:
                    blocks.append(residual(i, of_decoder))
            self.down.append(nn.ModuleList(blocks))
            self.biases.append(nn.Parameter(torch.zeros(width[i], *sizes[i])))
        changes = [(width[i + 1], width[i]) for i in reversed(range(len(sizes) - 1))]
        self.changes = nn.ModuleList(nn.Conv2d(a, b, 1) if a != b else nn.Identity() for a, b in changes)
        self.affine = ChannelAffine(width[0]) if affine_output else None
        kernel = 1 if affine_output else 3
        self.last = nn.Conv2d(width[0], self.pixel.num_params, kernel, padding=kernel // 2)
        if zero_biases:
            for module in self.modules():
                if isinstance(module, nn.Conv2d) and module.bias is not None:
                    nn.init.zeros_(module.bias)
        self.latent_shapes = [b.latent_shape for b in self.down.modules() if isinstance(b, TopDownBlock)]
        self.latent_dim = sum(math.prod(s) for s in self.latent_shapes)
        if not isinstance(self, objective.needs):
            raise InputError("a hierarchical VAE is trained with vae/objective=elbo")
        objective.check(self)

    def _lay_out(
        self, channels: int, latent_channels: int, num_blocks: int | str, encoder_blocks: int | str, latent_side: int
    ) -> Layout:
        counts = [n for n in (num_blocks, encoder_blocks) if isinstance(n, int)]
        if min(channels, latent_channels, latent_side, *counts) < 1:
            raise InputError(
                f"channels={channels}, latent_channels={latent_channels}, num_blocks={num_blocks}, "
                f"encoder_blocks={encoder_blocks}, latent_side={latent_side}: at least 1 of each"
            )
        C, H, W = self.shape
        if isinstance(num_blocks, str) and isinstance(encoder_blocks, str):
            return written((C, H, W), encoder_blocks, num_blocks)
        if isinstance(num_blocks, str) or isinstance(encoder_blocks, str):
            raise InputError(
                f"num_blocks={num_blocks}, encoder_blocks={encoder_blocks}: two numbers, or two lists such as 8x5,8d2"
            )
        return halved((C, H, W), encoder_blocks, num_blocks, latent_side)

    # -- up and down ---------------------------------------------------------------------------------------------------

    def features(self, x: Tensor, y: Tensor | None = None) -> list[Tensor]:
        """Compute the encoder's features of images, from the coarsest size to the finest."""
        h = self.first(with_class(2 * x - 1, y, self.num_classes))
        found = []
        for i, blocks in enumerate(self.up):
            if i > 0:
                h = F.avg_pool2d(self.lowering[i - 1](h), self.rates[i - 1], ceil_mode=True)
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
            The parameters of p(x | z), ``(B, pixel.num_params, H, W)``, and the latents of every block drawn from q;
            no latents if they are drawn from p.
        """
        of_blocks = iter(noise)
        if self.start is None:
            h = self.biases[0].new_zeros(len(noise[0]), len(self.biases[0]), 1, 1)
        else:
            known = given(y) if self.num_classes is not None else noise[0].new_zeros(len(noise[0])).long()
            h = self.start(known)[:, :, None, None]
        found = []
        for i, (blocks, bias) in enumerate(zip(self.down, self.biases, strict=True)):
            if i > 0:
                size = self.sizes[-1 - i]
                h = F.interpolate(self.changes[i - 1](h), scale_factor=self.rates[-i])[:, :, : size[0], : size[1]]
            h = h + bias.to(h.dtype)
            for block in cast(nn.ModuleList, blocks):
                if isinstance(block, TopDownBlock):
                    h, drawn = block(h, next(of_blocks), None if features is None else features[i])
                    found += [drawn] if drawn is not None else []
                else:
                    h = block(h)
        h = F.gelu(h) if self.affine is None else self.affine(h)
        with own_precision(h, self.distribution.needs_float32):
            return self.last(h.to(self.last.weight.dtype)), found

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
        return self.pixel.log_prob(params, x).flatten(1).sum(1)

    # -- the contract --------------------------------------------------------------------------------------------------

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        assert self.last.bias is not None
        with torch.no_grad():
            self.last.bias.copy_(self.pixel.fit(x.transpose(0, 1).flatten(1).T))

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
        log_likelihood, kl = in_parts(self.elbo_terms, x, y)
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
        return self.pixel.mean(self.top_down(self._split(z), y)[0])

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
            return self.pixel.mean(params)
        u = uniform((num_samples, *self.shape), generator, self.device)
        return self.pixel.sample(params, u, temperature)

    def graph(self) -> Graph:
        """Give the decoder: latents to mean images."""
        shape = ", ".join(map(str, self.shape))
        about = f"z: standardised latents from N(0, I), (B, {self.latent_dim}); x: mean images in [0, 1], (B, {shape})"
        return of_method(self, "decode", {"z": typical(2, self.latent_dim)}, ["x"], about, self.num_classes)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "x ~ p(x | z)" if self.sample_pixels else "E[x | z]"
