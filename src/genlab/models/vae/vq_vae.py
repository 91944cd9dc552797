"""VQ-VAE and VQ-VAE-2: images as a small grid of codes, for a second model to learn a prior of."""

import itertools
import math
from typing import ClassVar, Literal, NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.noise import Generators, uniform
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.precision import own_precision
from genlab.models.base import LikelihoodModel
from genlab.models.sampling import SamplingSettings
from genlab.models.vae.networks import Doubled, ResidualBlock, fit_bias, with_class


class Quantized(NamedTuple):
    """Vectors ``(B, D, h, w)`` of the codebook, the encoder's gradient straight through; their indices ``(B, h, w)``;
    and the mean squared distance that the encoder is to close."""

    vectors: Tensor
    codes: Tensor
    commitment: Tensor


class Codebook(nn.Module):
    """K vectors, each the moving average of what is nearest to it: arXiv:1711.00937, appendix A.1.

    A vector that hardly anything is near to begins again at a random output of the encoder, as in Jukebox
    (arXiv:2005.00341). Processes average together.

    Args:
        num_codes: K.
        dim: D.
        decay: gamma of the moving averages.
        restart_below: of an even share of uses, what a vector must have; 0 restarts none.
    """

    vectors: Tensor
    uses: Tensor
    sums: Tensor

    def __init__(self, num_codes: int, dim: int, decay: float = 0.99, restart_below: float = 0.05) -> None:
        super().__init__()
        self.decay, self.restart_below = decay, restart_below
        vectors = torch.randn(num_codes, dim)
        self.register_buffer("vectors", vectors)
        self.register_buffer("uses", torch.ones(num_codes))  # N of the paper, a moving average of uses a batch
        self.register_buffer("sums", vectors.clone())  # m of the paper

    def forward(self, z: Tensor) -> Quantized:
        """The vectors nearest to an encoder's ``(B, D, h, w)``; in training they follow it."""
        z = z.to(self.vectors.dtype)
        points = z.permute(0, 2, 3, 1)  # (B, h, w, D)
        codes = self._nearest(points)
        vectors = self.vectors[codes].permute(0, 3, 1, 2)
        if self.training:
            self._follow(points.detach().flatten(0, 2), codes.flatten())
        return Quantized(z + (vectors - z).detach(), codes, F.mse_loss(z, vectors.detach()))

    def lookup(self, codes: Tensor) -> Tensor:
        """``(B, h, w)`` to vectors ``(B, D, h, w)``."""
        return self.vectors[codes].permute(0, 3, 1, 2)

    def fit(self, z: Tensor) -> None:
        """Begin at random ones of an encoder's ``(N, D, h, w)``."""
        self.vectors.copy_(_random_rows(z.permute(0, 2, 3, 1).flatten(0, 2), len(self.vectors)))
        self.sums.copy_(self.vectors)
        self.uses.fill_(1)

    def _nearest(self, points: Tensor) -> Tensor:
        with torch.autocast(points.device.type, enabled=False):
            # |z - e|² without |z|², which all vectors share.
            return (self.vectors.square().sum(1) - 2 * points @ self.vectors.T).argmin(-1)

    @torch.no_grad()
    def _follow(self, points: Tensor, codes: Tensor) -> None:
        uses, sums = torch.zeros_like(self.uses), torch.zeros_like(self.sums)
        uses.index_add_(0, codes, torch.ones_like(codes, dtype=uses.dtype))
        sums.index_add_(0, codes, points)
        fresh = _random_rows(points, len(uses))
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(uses)
            dist.all_reduce(sums)
            dist.broadcast(fresh, 0)
        self.uses.lerp_(uses, 1 - self.decay)
        self.sums.lerp_(sums, 1 - self.decay)
        even = self.uses.mean()
        dead = self.uses < self.restart_below * even
        self.uses.copy_(torch.where(dead, even, self.uses))
        self.sums.copy_(torch.where(dead[:, None], even * fresh, self.sums))
        used = (self.uses > 1e-6)[:, None]  # a vector that nothing was near to for long stays where it was
        self.vectors.copy_(torch.where(used, self.sums / self.uses[:, None], self.vectors))


def _random_rows(points: Tensor, num: int) -> Tensor:
    return points[torch.randint(len(points), (num,), device=points.device)]


class Encoder(nn.Sequential):
    """``(B, inputs, H, W)`` to ``(B, channels, h, w)``, halving the sides for each of ``sizes`` but the first."""

    def __init__(self, inputs: int, channels: int, num_halvings: int, num_blocks: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, channels, 3, padding=1)]
        for _ in range(num_halvings):
            layers += [nn.SiLU(), nn.Conv2d(channels, channels, 3, stride=2, padding=1)]  # an odd side is rounded up
        super().__init__(*layers, *[ResidualBlock(channels) for _ in range(num_blocks)])


class Decoder(nn.Sequential):
    """``(B, inputs, *sizes[0])`` to ``(B, channels, *sizes[-1])``."""

    def __init__(self, inputs: int, channels: int, sizes: list[tuple[int, ...]], num_blocks: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, channels, 3, padding=1)]
        layers += [ResidualBlock(channels) for _ in range(num_blocks)]
        for _, size in itertools.pairwise(sizes):
            layers += [nn.SiLU(), Doubled(size), nn.Conv2d(channels, channels, 3, padding=1)]
        super().__init__(*layers)


class VQVAE(LikelihoodModel):
    """Neural Discrete Representation Learning (arXiv:1711.00937), and with two levels Generating Diverse High-Fidelity
    Images with VQ-VAE-2 (arXiv:1906.00446).

    An image's features become the nearest vectors of a codebook, h times w codes, from which it is decoded. With two
    levels a coarser grid is coded first, and the finer one with it at hand. A second model learns how codes go together
    (``dataset=latent_codes dataset.run=...``); ``sample`` of this one draws all codes alike, which makes no images.

    ``log_prob`` is the bound of a uniform prior, log p(x | codes) minus log K for every code. Training minimises
    -log p(x | codes), in bits/dim, and ``commitment`` times the squared distance of the features to their vectors.

    Args:
        shape: ``(C, H, W)``.
        distribution: of a pixel given the codes.
        num_classes: of a conditional model, whose encoder and decoder see the class.
        num_codes: K, of each codebook.
        code_dim: D, of their vectors.
        num_levels: 1, or 2 for VQ-VAE-2.
        num_halvings: of the sides down to the finest codes, at most; no side falls below 4.
        channels: of the features.
        num_blocks: residual blocks of each encoder and decoder.
        commitment: beta.
        decay: of the codebook's moving averages.
        restart_below: see :class:`Codebook`.
    """

    likelihood: ClassVar[Literal["exact", "lower_bound"]] = "lower_bound"

    def __init__(
        self,
        shape: tuple[int, int, int],
        distribution: PixelDistribution,
        num_classes: int | None = None,
        num_codes: int = 128,
        code_dim: int = 32,
        num_levels: int = 1,
        num_halvings: int = 2,
        channels: int = 64,
        num_blocks: int = 2,
        commitment: float = 0.25,
        decay: float = 0.99,
        restart_below: float = 0.05,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: a VQ-VAE models images (C, H, W)")
        if num_levels not in (1, 2):
            raise InputError(f"num_levels={num_levels}: 1, or 2 for VQ-VAE-2")
        if num_codes < 2 or min(code_dim, channels) < 1 or min(num_halvings, num_blocks) < 0:
            raise InputError(
                f"num_codes={num_codes}, code_dim={code_dim}, channels={channels}, num_halvings={num_halvings}, "
                f"num_blocks={num_blocks}: at least 2 codes, 1 dimension and channel, and no fewer of the others than 0"
            )
        if commitment < 0 or not 0 <= decay < 1 or not 0 <= restart_below < 1:
            raise InputError(
                f"commitment={commitment}, decay={decay}, restart_below={restart_below}: commitment at least 0, "
                "the others in [0, 1)"
            )
        self.distribution, self.num_codes, self.commitment = distribution, num_codes, commitment
        sizes: list[tuple[int, ...]] = [tuple(shape[1:])]
        while len(sizes) <= num_halvings and min(sizes[0]) >= 8:
            sizes.insert(0, tuple(-(-side // 2) for side in sizes[0]))
        self.size = sizes[0]  # of the finest codes
        self.coarse = tuple(-(-side // 2) for side in self.size)
        self.code_shape = (1, *self.size) if num_levels == 1 else (5, *self.coarse)
        given = num_classes or 0
        self.encoder = Encoder(shape[0] + given, channels, len(sizes) - 1, num_blocks)
        self.codebook = Codebook(num_codes, code_dim, decay, restart_below)
        self.coarse_codebook = None
        if num_levels == 2:
            self.coarse_encoder = Encoder(channels, channels, 1, num_blocks)
            self.to_coarse = nn.Conv2d(channels, code_dim, 1)
            self.coarse_codebook = Codebook(num_codes, code_dim, decay, restart_below)
            self.coarse_decoder = Decoder(code_dim, channels, [self.coarse, self.size], num_blocks)
        fine = channels * num_levels
        self.to_fine = nn.Conv2d(fine, code_dim, 1)
        inputs = code_dim + (channels if num_levels == 2 else 0)
        self.decoder = Decoder(inputs + given, channels, sizes, num_blocks)
        self.last = nn.Conv2d(channels, distribution.num_params * shape[0], 3, padding=1)

    # -- images to codes and back --------------------------------------------------------------------------------------

    def quantize(self, x: Tensor, y: Tensor | None = None) -> list[Quantized]:
        """Of every level, the coarser one first."""
        h = self.encoder(with_class(2 * x - 1, y, self.num_classes))
        if self.coarse_codebook is None:
            return [self.codebook(self.to_fine(h))]
        coarse = self.coarse_codebook(self.to_coarse(self.coarse_encoder(h)))
        from_coarse = self.coarse_decoder(coarse.vectors)
        return [coarse, self.codebook(self.to_fine(torch.cat([h, from_coarse], 1)))]

    def likelihood_params(self, vectors: list[Tensor], y: Tensor | None = None) -> Tensor:
        """Parameters of p(x | codes), ``(B, num_params, C, H, W)``, from the vectors of every level."""
        h = vectors[-1]
        if self.coarse_codebook is not None:
            h = torch.cat([h, self.coarse_decoder(vectors[0]).to(h.dtype)], 1)
        h = F.silu(self.decoder(with_class(h, y, self.num_classes)))
        with own_precision(h, self.distribution.needs_float32):
            params = self.last(h.to(self.last.weight.dtype))
        return params.unflatten(1, (self.distribution.num_params, self.shape[0]))

    def codes(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """int64 ``(B, *code_shape)``: ``(B, 1, h, w)``.

        Of two levels ``(B, 5, h / 2, w / 2)``: a coarse code and the four fine ones at its place, so that a model that
        takes channels in order draws the coarse one first. Odd sides of the fine grid are filled up by the code 0.
        """
        codes = [level.codes.unsqueeze(1) for level in self.quantize(x, y)]
        if len(codes) == 1:
            return codes[0]
        h, w = self.size
        fine = F.pixel_unshuffle(F.pad(codes[1], (0, w % 2, 0, h % 2)), 2)
        return torch.cat([codes[0], fine], 1)

    def decode_codes(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x | codes], ``(B, C, H, W)``, of int64 ``(B, *code_shape)``."""
        if self.coarse_codebook is None:
            vectors = [self.codebook.lookup(codes[:, 0])]
        else:
            h, w = self.size
            fine = F.pixel_shuffle(codes[:, 1:], 2)[:, 0, :h, :w]
            vectors = [self.coarse_codebook.lookup(codes[:, 0]), self.codebook.lookup(fine)]
        return self.distribution.mean(self.likelihood_params(vectors, y))

    # -- the contract --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Codebooks begin at features of the data, and the last biases at the distribution of its values."""
        h = self.encoder(with_class(2 * x - 1, y, self.num_classes))
        if self.coarse_codebook is not None:
            self.coarse_codebook.fit(self.to_coarse(self.coarse_encoder(h)))
            coarse = self.coarse_codebook.eval()(self.to_coarse(self.coarse_encoder(h)))
            h = torch.cat([h, self.coarse_decoder(coarse.vectors)], 1)
            self.coarse_codebook.train(self.training)
        self.codebook.fit(self.to_fine(h))
        fit_bias(self.last, self.distribution, x)

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        levels = self.quantize(x, y)
        log_likelihood = self._log_likelihood(x, levels, y)
        commitment = torch.stack([level.commitment for level in levels]).mean()
        reconstruction = -log_likelihood.mean()
        return {
            "loss": self.bits_per_dim(reconstruction) + self.commitment * commitment,
            "nll": reconstruction + self._nats_of_codes,
            "reconstruction": reconstruction,
            "commitment": commitment,
        }

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self._log_likelihood(x, self.quantize(x, y), y) - self._nats_of_codes

    def _log_likelihood(self, x: Tensor, levels: list[Quantized], y: Tensor | None) -> Tensor:
        params = self.likelihood_params([level.vectors for level in levels], y)
        return self.distribution.log_prob(params, x).flatten(1).sum(1)

    @property
    def _nats_of_codes(self) -> float:
        """KL of the posterior, which is sure of its codes, to a uniform prior over them."""
        num = math.prod(self.size) + (math.prod(self.coarse) if self.coarse_codebook is not None else 0)
        return num * math.log(self.num_codes)

    @torch.no_grad()
    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """How ``N`` images use the codebooks, as means over levels.

        ``codebook_use`` is the share of codes that they use, ``codebook_perplexity`` of how many equally frequent codes
        they would have as much entropy.
        """
        counts = [torch.bincount(level.codes.flatten(), minlength=self.num_codes) for level in self.quantize(x, y)]
        shares = torch.stack(counts) / torch.stack(counts).sum(1, keepdim=True)
        return {
            "codebook_use": float((shares > 0).float().mean()),
            "codebook_perplexity": float(torch.special.entr(shares).sum(1).exp().mean()),
        }

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The vectors of all levels as one, ``(B, D)``."""
        return torch.cat([level.vectors.flatten(1) for level in self.quantize(x, y)], 1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """E[x | z], ``(B, C, H, W)``, of vectors that need not be of the codebook."""
        dim = self.codebook.vectors.shape[1]
        sizes = [self.size] if self.coarse_codebook is None else [self.coarse, self.size]
        parts = z.split([dim * math.prod(size) for size in sizes], 1)
        vectors = [part.unflatten(1, (dim, *size)) for part, size in zip(parts, sizes, strict=True)]
        return self.distribution.mean(self.likelihood_params(vectors, y))

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        """Draw images of uniform codes; see the class for how to draw codes as the data has them."""
        self.settings(sampling)
        y = self.classes(num_samples, y, generator)
        u = uniform((num_samples, *self.code_shape), generator, self.device)
        return self.decode_codes((u * self.num_codes).long().clamp(max=self.num_codes - 1), y)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "E[x | uniform codes]"
