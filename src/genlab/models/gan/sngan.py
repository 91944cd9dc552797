"""SNGAN: the residual networks of Spectral Normalization for Generative Adversarial Networks (arXiv:1802.05957).

With classes, it is the model of cGANs with Projection Discriminator (arXiv:1802.05637); with ``attention``, SAGAN
(arXiv:1805.08318); without ``normalization``, the networks of Improved Training of Wasserstein GANs (arXiv:1704.00028).
"""

import itertools
from typing import Literal

from torch import Tensor, nn
from torch.nn import functional as F

from genlab.errors import InputError
from genlab.layers.conditional_norm import ConditionalBatchNorm2d
from genlab.layers.resampling import resolutions, widths
from genlab.layers.self_attention2d import SelfAttention2d
from genlab.layers.spectral import spectrally_normalized
from genlab.models.adversarial import AdversarialModel, given
from genlab.networks.residual import GeneratorBlock, PlainBatchNorm2d, ResidualDiscriminator, initialise_xavier


class SNGAN(AdversarialModel):
    """SNGAN: residual networks for images of any shape.

    With classes, the generator has conditional batch normalization and the discriminator a projection.

    Args:
        shape: ``(C, H, W)`` of the images.
        num_classes: number of classes; None for an unconditional model.
        latent_dim: number of dimensions of z ~ N(0, I).
        channels: upper limit on the number of the generator's channels.
        discriminator_channels: upper limit on the number of the discriminator's channels.
        channel_base: upper limit on the generator's channels times the side; None for 32 times ``channels``.
        discriminator_channel_base: the same limit for the discriminator.
        normalization: normalization of the discriminator's weights.
        spectral_generator: whether the generator's weights are spectrally normalized too, as in SAGAN.
        attention: self-attention is applied once in each network, at the largest resolution whose smaller side is at
            most this; None for no self-attention.
        pooling: whether the discriminator's last features are summed over places, as in SNGAN, or averaged, as in the
            code of WGAN-GP.
        pack: number of images that the discriminator judges together.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        latent_dim: int = 128,
        channels: int = 256,
        discriminator_channels: int = 128,
        channel_base: int | None = None,
        discriminator_channel_base: int | None = None,
        normalization: Literal["spectral", "none"] = "spectral",
        spectral_generator: bool = False,
        attention: int | None = None,
        pack: int = 1,
        pooling: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__(shape, num_classes, pack)
        if min(latent_dim, channels, discriminator_channels) < 1:
            raise InputError(
                f"latent_dim={latent_dim}, channels={channels}, discriminator_channels={discriminator_channels}: "
                "at least 1 of each"
            )
        self.latent_dim = latent_dim
        sizes = resolutions(shape[1:])
        self.generator = Generator(shape, latent_dim, widths(channels, channel_base, sizes), num_classes, attention)
        self.discriminator = ResidualDiscriminator(
            shape, discriminator_channels, discriminator_channel_base, num_classes, pack, attention, pooling
        )
        self.apply(initialise_xavier)
        if normalization == "spectral":
            spectrally_normalized(self.discriminator)
        if spectral_generator:
            spectrally_normalized(self.generator, embeddings=False)


class Generator(nn.Module):
    """Network from z ``(B, latent_dim)`` to images in [0, 1]."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        latent_dim: int,
        each: list[int],
        num_classes: int | None,
        attention: int | None,
    ) -> None:
        super().__init__()
        self.conditional = num_classes is not None
        sizes = resolutions(shape[1:])

        def norm(features: int) -> nn.Module:
            if num_classes is None:
                return PlainBatchNorm2d(features)
            to_affine = nn.Embedding(num_classes, 2 * features)
            nn.init.zeros_(to_affine.weight)
            return ConditionalBatchNorm2d(features, to_affine)

        self.first = nn.Sequential(
            nn.Linear(latent_dim, each[0] * sizes[0][0] * sizes[0][1]), nn.Unflatten(1, (each[0], *sizes[0]))
        )
        self.blocks = nn.ModuleList(
            GeneratorBlock(inputs, outputs, (norm(inputs), norm(outputs)), size)
            for (inputs, outputs), size in zip(itertools.pairwise(each), sizes[1:], strict=True)
        )
        fitting = [i for i, size in enumerate(sizes) if attention is not None and min(size) <= attention]
        self.attention_at = fitting[-1] if fitting else None
        self.attention = SelfAttention2d(each[fitting[-1]]) if fitting else None
        self.last_norm = nn.BatchNorm2d(each[-1])
        self.to_image = nn.Conv2d(each[-1], shape[0], 3, padding=1)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        condition = given(y) if self.conditional else None
        h = self.first(z)
        for i, block in enumerate([None, *self.blocks]):
            if block is not None:
                h = block(h, condition)
            if i == self.attention_at and self.attention is not None:
                h = self.attention(h)
        return (self.to_image(F.relu(self.last_norm(h))).tanh() + 1) / 2
