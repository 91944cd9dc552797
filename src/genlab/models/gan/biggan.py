"""BigGAN: Large Scale GAN Training for High Fidelity Natural Image Synthesis (arXiv:1809.11096)."""

import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from genlab.errors import InputError
from genlab.layers.conditional_norm import ConditionalBatchNorm2d
from genlab.layers.resampling import resolutions, widths
from genlab.layers.self_attention2d import SelfAttention2d
from genlab.layers.spectral import spectrally_normalized
from genlab.models.adversarial import AdversarialModel, given
from genlab.networks.residual import GeneratorBlock, ResidualDiscriminator, initialise_orthogonal


class BigGAN(AdversarialModel):
    """BigGAN: residual networks whose generator is conditioned in each block on a part of z and a class embedding.

    All blocks share the class embedding. Both networks have spectral normalization and orthogonal initial weights. The
    truncation trick of the paper is the sampling setting ``truncation``.

    Args:
        shape: ``(C, H, W)`` of the images.
        num_classes: number of classes; None for an unconditional model.
        latent_dim: number of dimensions of z ~ N(0, I), split evenly among the first layer and the blocks.
        channels: upper limit on the number of the generator's channels.
        discriminator_channels: upper limit on the number of the discriminator's channels.
        channel_base: upper limit on the generator's channels times the side; None for 32 times ``channels``.
        discriminator_channel_base: the same limit for the discriminator.
        class_dim: number of dimensions of the shared class embedding.
        attention: self-attention is applied once in each network, at the largest resolution whose smaller side is at
            most this; None for no self-attention.
        pack: number of images that the discriminator judges together.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        latent_dim: int = 80,
        channels: int = 256,
        discriminator_channels: int = 256,
        channel_base: int | None = None,
        discriminator_channel_base: int | None = None,
        class_dim: int = 128,
        attention: int | None = None,
        pack: int = 1,
    ) -> None:
        super().__init__(shape, num_classes, pack)
        if min(latent_dim, channels, discriminator_channels, class_dim) < 1:
            raise InputError(
                f"latent_dim={latent_dim}, channels={channels}, discriminator_channels={discriminator_channels}, "
                f"class_dim={class_dim}: at least 1 of each"
            )
        self.latent_dim = latent_dim
        sizes = resolutions(shape[1:])
        self.generator = Generator(
            shape, latent_dim, widths(channels, channel_base, sizes), num_classes, class_dim, attention
        )
        self.discriminator = ResidualDiscriminator(
            shape, discriminator_channels, discriminator_channel_base, num_classes, pack, attention
        )
        self.apply(initialise_orthogonal)
        spectrally_normalized(self.generator, embeddings=False)
        spectrally_normalized(self.discriminator)


class Generator(nn.Module):
    """Network from z ``(B, latent_dim)`` to images in [0, 1]."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        each: list[int],
        num_classes: int | None,
        class_dim: int,
        attention: int | None,
    ) -> None:
        super().__init__()
        sizes = resolutions(shape[1:])
        if latent_dim < len(sizes):
            raise InputError(f"latent_dim={latent_dim} does not split over {len(sizes)} layers: make it larger")
        self.embedding = nn.Embedding(num_classes, class_dim) if num_classes is not None else None
        self.chunks = [len(chunk) for chunk in torch.arange(latent_dim).tensor_split(len(sizes))]
        of_class = class_dim if num_classes is not None else 0
        self.first = nn.Sequential(
            nn.Linear(self.chunks[0], each[0] * sizes[0][0] * sizes[0][1]), nn.Unflatten(1, (each[0], *sizes[0]))
        )
        blocks = []
        for (inputs, outputs), size, chunk in zip(itertools.pairwise(each), sizes[1:], self.chunks[1:], strict=True):
            norms = [
                ConditionalBatchNorm2d(features, nn.Linear(chunk + of_class, 2 * features, bias=False))
                for features in (inputs, outputs)
            ]
            blocks.append(GeneratorBlock(inputs, outputs, (norms[0], norms[1]), size))
        self.blocks = nn.ModuleList(blocks)
        fitting = [i for i, size in enumerate(sizes) if attention is not None and min(size) <= attention]
        self.attention_at = fitting[-1] if fitting else None
        self.attention = SelfAttention2d(each[fitting[-1]]) if fitting else None
        self.last_norm = nn.BatchNorm2d(each[-1])
        self.to_image = nn.Conv2d(each[-1], shape[0], 3, padding=1)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        first, *chunks = z.split(self.chunks, 1)
        h = self.first(first)
        of_class = None if self.embedding is None else self.embedding(given(y))
        for i, block in enumerate([None, *self.blocks]):
            if block is not None:
                chunk = chunks[i - 1]
                h = block(h, chunk if of_class is None else torch.cat([chunk, of_class], 1))
            if i == self.attention_at and self.attention is not None:
                h = self.attention(h)
        return (self.to_image(F.relu(self.last_norm(h))).tanh() + 1) / 2
