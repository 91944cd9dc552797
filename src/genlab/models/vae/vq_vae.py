"""VQ-VAE and VQ-VAE-2: images as a small grid of discrete codes, whose prior a second model learns."""

import itertools
import math
from typing import NamedTuple

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.noise import Generators, uniform
from genlab.distributions.pixel import Likelihood, PixelDistribution
from genlab.errors import InputError
from genlab.layers.precision import own_precision
from genlab.models.base import LikelihoodModel
from genlab.models.graph import Graph, of_method
from genlab.models.in_parts import in_parts
from genlab.models.sampling import SamplingSettings
from genlab.models.vae.networks import Doubled, ResidualBlock, fit_bias, with_class


class Quantized(NamedTuple):
    """Encoder outputs replaced by their nearest codebook vectors.

    Attributes:
        vectors: codebook vectors, ``(B, D, h, w)``; their gradient passes straight through to the encoder.
        codes: indices of these vectors in the codebook, int64 ``(B, h, w)``.
        commitment: squared distance between the encoder's outputs and their vectors, averaged over dimensions and
            positions; its gradient reaches the encoder only.
    """

    vectors: Tensor
    codes: Tensor
    commitment: Tensor


class Codebook(nn.Module):
    """K vectors, each a moving average of the encoder outputs nearest to it: arXiv:1711.00937, appendix A.1.

    A vector that is rarely used restarts at a random output of the encoder, as in Jukebox (arXiv:2005.00341). In
    distributed training the averages are taken over all processes.

    Args:
        num_codes: number of vectors, K.
        dim: dimension of a vector, D.
        decay: decay of the moving averages, gamma of the paper, in [0, 1).
        restart_below: a vector restarts if it is used less than this fraction of the average use, in [0, 1); 0 restarts
            none.
    """

    vectors: Tensor
    uses: Tensor
    sums: Tensor

    def __init__(self, num_codes: int, dim: int, decay: float = 0.99, restart_below: float = 0.05) -> None:
        super().__init__()
        self.decay, self.restart_below = decay, restart_below
        vectors = torch.randn(num_codes, dim)
        self.register_buffer("vectors", vectors)
        self.register_buffer("uses", torch.ones(num_codes))  # N of the paper: moving average of the uses per batch
        self.register_buffer("sums", vectors.clone())  # m of the paper

    def forward(self, z: Tensor) -> Quantized:
        """Replace an encoder's outputs ``(B, D, h, w)`` by their nearest vectors; in training, update the vectors."""
        z = z.to(self.vectors.dtype)
        points = z.permute(0, 2, 3, 1)  # (B, h, w, D)
        codes = self._nearest(points)
        vectors = self.vectors[codes].permute(0, 3, 1, 2)
        if self.training:
            self._follow(points.detach().flatten(0, 2), codes.flatten())
        return Quantized(z + (vectors - z).detach(), codes, F.mse_loss(z, vectors.detach()))

    def lookup(self, codes: Tensor) -> Tensor:
        """Map codes ``(B, h, w)`` to their vectors ``(B, D, h, w)``."""
        return self.vectors[codes].permute(0, 3, 1, 2)

    def fit(self, z: Tensor) -> None:
        """Initialize the vectors to an encoder's outputs ``(N, D, h, w)`` at random positions."""
        self.vectors.copy_(_random_rows(z.permute(0, 2, 3, 1).flatten(0, 2), len(self.vectors)))
        self.sums.copy_(self.vectors)
        self.uses.fill_(1)

    def _nearest(self, points: Tensor) -> Tensor:
        with torch.autocast(points.device.type, enabled=False):
            # |z - e|² without |z|², which is the same for all vectors and does not change the nearest one.
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
        used = (self.uses > 1e-6)[:, None]  # a vector that has long been unused keeps its value
        self.vectors.copy_(torch.where(used, self.sums / self.uses[:, None], self.vectors))


def _random_rows(points: Tensor, num: int) -> Tensor:
    return points[torch.randint(len(points), (num,), device=points.device)]


class Encoder(nn.Sequential):
    """Convolutions that halve the sides ``num_halvings`` times: ``(B, inputs, H, W)`` to ``(B, channels, h, w)``."""

    def __init__(self, inputs: int, channels: int, num_halvings: int, num_blocks: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, channels, 3, padding=1)]
        for _ in range(num_halvings):
            layers += [nn.SiLU(), nn.Conv2d(channels, channels, 3, stride=2, padding=1)]  # an odd side is rounded up
        super().__init__(*layers, *[ResidualBlock(channels) for _ in range(num_blocks)])


class Decoder(nn.Sequential):
    """Convolutions that double the sides: ``(B, inputs, *sizes[0])`` to ``(B, channels, *sizes[-1])``."""

    def __init__(self, inputs: int, channels: int, sizes: list[tuple[int, ...]], num_blocks: int) -> None:
        layers: list[nn.Module] = [nn.Conv2d(inputs, channels, 3, padding=1)]
        layers += [ResidualBlock(channels) for _ in range(num_blocks)]
        for _, size in itertools.pairwise(sizes):
            layers += [nn.SiLU(), Doubled(size), nn.Conv2d(channels, channels, 3, padding=1)]
        super().__init__(*layers)


class VQVAE(LikelihoodModel):
    """An autoencoder whose latents are discrete codes: Neural Discrete Representation Learning (arXiv:1711.00937).

    With two levels it is Generating Diverse High-Fidelity Images with VQ-VAE-2 (arXiv:1906.00446).

    Each position of an image's ``(h, w)`` feature map is replaced by the nearest vector of a codebook, and the image is
    decoded from these vectors. With two levels, a coarser grid of codes is computed first and the finer grid depends on
    it. A second model learns the joint distribution of the codes (``dataset=latent_codes dataset.run=...``); ``sample``
    of this model draws codes uniformly, which does not give realistic images.

    ``log_prob`` is the lower bound under a uniform prior of the codes: log p(x | codes) minus log K for every code.
    Training minimises -log p(x | codes), in bits/dim, plus ``commitment`` times the squared distance between the
    features and their vectors, averaged over dimensions, positions and code grids. Both terms are averages, as in the
    code of arXiv:1906.00446. In equation 3 of arXiv:1711.00937 both are sums, the first in nats: with
    ``commitment_sum``, the loss is that equation's, divided by the number of values and by ln 2, which changes no
    minimum, and ``commitment`` is its beta.

    Args:
        shape: image shape ``(C, H, W)``.
        distribution: distribution of a pixel given the codes.
        num_classes: number of classes, which the encoder and decoder see; None for an unconditional model.
        num_codes: number of vectors in each codebook, K.
        code_dim: dimension of a vector, D.
        num_levels: number of code grids: 1, or 2 for VQ-VAE-2.
        num_halvings: maximum number of times that the sides are halved down to the finest codes; no side falls below 4.
        channels: channels of the features.
        num_blocks: number of residual blocks in each encoder and decoder.
        commitment: weight of the commitment loss, relative to a reconstruction in bits/dim; with ``commitment_sum``, of
            its sum relative to a reconstruction in nats per image.
        decay: decay of the codebook's moving averages, in [0, 1).
        restart_below: fraction of the average use below which a vector restarts, see :class:`Codebook`.
        commitment_sum: whether the commitment loss is a sum over dimensions, positions and code grids.

    Raises:
        InputError: if the shape is not an image's or an option is out of its range.
    """

    likelihood: Likelihood = "lower_bound"

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
        commitment_sum: bool = False,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: a VQ-VAE models images (C, H, W)")
        if num_levels not in (1, 2):
            raise InputError(f"num_levels={num_levels}: 1, or 2 for VQ-VAE-2")
        if num_codes < 2 or min(code_dim, channels) < 1 or min(num_halvings, num_blocks) < 0:
            raise InputError(
                f"num_codes={num_codes}, code_dim={code_dim}, channels={channels}, num_halvings={num_halvings}, "
                f"num_blocks={num_blocks}: at least 2 codes, 1 dimension and 1 channel, and no negative number"
            )
        if commitment < 0 or not 0 <= decay < 1 or not 0 <= restart_below < 1:
            raise InputError(
                f"commitment={commitment}, decay={decay}, restart_below={restart_below}: commitment at least 0, "
                "the others in [0, 1)"
            )
        self.distribution, self.num_codes, self.commitment = distribution, num_codes, commitment
        self.commitment_sum = commitment_sum
        sizes: list[tuple[int, ...]] = [tuple(shape[1:])]
        while len(sizes) <= num_halvings and min(sizes[0]) >= 8:
            sizes.insert(0, tuple(-(-side // 2) for side in sizes[0]))
        self.size = sizes[0]  # (h, w) of the finest codes
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
        """Quantize images: one result per level, the coarser level first."""
        h = self.encoder(with_class(2 * x - 1, y, self.num_classes))
        if self.coarse_codebook is None:
            return [self.codebook(self.to_fine(h))]
        coarse = self.coarse_codebook(self.to_coarse(self.coarse_encoder(h)))
        from_coarse = self.coarse_decoder(coarse.vectors)
        return [coarse, self.codebook(self.to_fine(torch.cat([h, from_coarse], 1)))]

    def likelihood_params(self, vectors: list[Tensor], y: Tensor | None = None) -> Tensor:
        """Compute the parameters of p(x | codes), ``(B, num_params, C, H, W)``, from the vectors of every level."""
        h = vectors[-1]
        if self.coarse_codebook is not None:
            h = torch.cat([h, self.coarse_decoder(vectors[0]).to(h.dtype)], 1)
        h = F.silu(self.decoder(with_class(h, y, self.num_classes)))
        with own_precision(h, self.distribution.needs_float32):
            params = self.last(h.to(self.last.weight.dtype))
        return params.unflatten(1, (self.distribution.num_params, self.shape[0]))

    def codes(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode images as codes, int64 ``(B, *code_shape)``; with one level ``(B, 1, h, w)``.

        With two levels the shape is ``(B, 5, h / 2, w / 2)``: the channels are a coarse code and the four fine codes at
        its position, so a prior that draws channels in order draws the coarse code first. A fine grid with an odd side
        is padded with the code 0.
        """
        codes = [level.codes.unsqueeze(1) for level in self.quantize(x, y)]
        if len(codes) == 1:
            return codes[0]
        h, w = self.size
        fine = F.pixel_unshuffle(F.pad(codes[1], (0, w % 2, 0, h % 2)), 2)
        return torch.cat([codes[0], fine], 1)

    def decode_codes(self, codes: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode codes, int64 ``(B, *code_shape)``, to the mean images E[x | codes], ``(B, C, H, W)``."""
        if self.coarse_codebook is None:
            vectors = [self.codebook.lookup(codes[:, 0])]
        else:
            h, w = self.size
            # What pixel_shuffle does, which ONNX has for floats only.
            fine = codes[:, 1:].unflatten(1, (2, 2)).permute(0, 3, 1, 4, 2).flatten(3).flatten(1, 2)[:, :h, :w]
            vectors = [self.coarse_codebook.lookup(codes[:, 0]), self.codebook.lookup(fine)]
        return self.distribution.mean(self.likelihood_params(vectors, y))

    # -- the contract --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Initialize the codebooks to features of the data, and the last biases to the distribution of its values."""
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
        term = commitment
        if self.commitment_sum:
            sums = [level.commitment * level.vectors[0].numel() for level in levels]
            term = self.bits_per_dim(torch.stack(sums).sum())
        return {
            "loss": self.bits_per_dim(reconstruction) + self.commitment * term,
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
        """The nats per image of KL(q || p), for a q that is certain of every code and a uniform prior p."""
        num = math.prod(self.size) + (math.prod(self.coarse) if self.coarse_codebook is not None else 0)
        return num * math.log(self.num_codes)

    @torch.no_grad()
    def diagnose(self, x: Tensor, y: Tensor | None = None) -> dict[str, float | Tensor]:
        """Measure how ``N`` images use the codebooks, averaged over levels.

        ``codebook_use`` is the fraction of codes that occur; ``codebook_perplexity`` is exp of the entropy of the
        codes: the number of equally frequent codes with the same entropy.
        """
        codes = in_parts(lambda x, y: [level.codes.view(len(x), -1) for level in self.quantize(x, y)], x, y)
        counts = [torch.bincount(of_level.flatten(), minlength=self.num_codes) for of_level in codes]
        shares = torch.stack(counts) / torch.stack(counts).sum(1, keepdim=True)
        return {
            "codebook_use": float((shares > 0).float().mean()),
            "codebook_perplexity": float(torch.special.entr(shares).sum(1).exp().mean()),
        }

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Encode images as the codebook vectors of all levels in one row, ``(B, D)``."""
        return torch.cat([level.vectors.flatten(1) for level in self.quantize(x, y)], 1)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Decode vectors, which need not be in the codebook, to the mean images E[x | z], ``(B, C, H, W)``."""
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
        """Draw images from uniform codes; see the class for how to draw codes from a learned prior."""
        self.settings(sampling)
        y = self.classes(num_samples, y, generator)
        u = uniform((num_samples, *self.code_shape), generator, self.device)
        return self.decode_codes((u * self.num_codes).long().clamp(max=self.num_codes - 1), y)

    def graph(self) -> Graph:
        """Give the decoder: codes to mean images."""
        count = math.prod(self.code_shape)
        codes = (torch.arange(2 * count) % self.num_codes).view(2, *self.code_shape)
        shape = ", ".join(map(str, self.code_shape))
        about = f"codes: int64 (B, {shape}), 0 to {self.num_codes - 1}; x: mean images in [0, 1]"
        return of_method(self, "decode_codes", {"codes": codes}, ["x"], about, self.num_classes)

    def describe_sampler(self, sampling: SamplingSettings | None = None) -> str:
        return "E[x | uniform codes]"
