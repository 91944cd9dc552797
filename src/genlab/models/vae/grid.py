"""Encoders and decoders whose latents are a grid: the autoencoder of latent diffusion (arXiv:2112.10752)."""

import itertools
import math

from torch import Tensor, nn

from genlab.errors import InputError
from genlab.models.vae.networks import Decoder, Doubled, Encoder, Networks, ResidualBlock, Shape, with_class


class Grid(Networks):
    """Networks of convolutions alone, so that each latent belongs to a place of the image.

    An image ``(C, H, W)`` has ``(latent_channels, h, w)`` latents, where h and w are H and W halved ``halvings`` times
    and rounded up. The VAE sees them as vectors, channel after channel.

    Args:
        latent_channels: number of latents at each place.
        halvings: number of times that the sides are halved.
        channels: number of channels at every size.
        num_blocks: number of residual blocks at every size.

    Raises:
        InputError: if an option is not positive, or an image is too small for so many halvings.
    """

    def __init__(self, latent_channels: int = 4, halvings: int = 2, channels: int = 64, num_blocks: int = 1) -> None:
        if min(latent_channels, halvings, channels, num_blocks) < 1:
            raise InputError(
                f"latent_channels={latent_channels}, halvings={halvings}, channels={channels}, "
                f"num_blocks={num_blocks}: each at least 1"
            )
        self.latent_channels, self.halvings = latent_channels, halvings
        self.channels, self.num_blocks = channels, num_blocks

    def _sizes(self, shape: Shape) -> list[tuple[int, int]]:
        """List the sizes of the features, from the smallest to the image's."""
        sizes = [(shape[1], shape[2])]
        for _ in range(self.halvings):
            if min(sizes[0]) < 2:
                raise InputError(f"halvings={self.halvings}: images of {shape[1]}x{shape[2]} cannot be halved so often")
            sizes.insert(0, (-(-sizes[0][0] // 2), -(-sizes[0][1] // 2)))
        return sizes

    def latent_shape(self, shape: Shape) -> Shape:
        return (self.latent_channels, *self._sizes(shape)[0])

    def encoder(self, shape: Shape, num_outputs: int, num_classes: int | None = None) -> Encoder:
        if num_outputs != 2 * math.prod(self.latent_shape(shape)):
            raise InputError("vae/networks=grid gives a mean and a deviation to each latent: choose posterior=gaussian")
        return _GridEncoder(self, shape, num_classes)

    def decoder(
        self, num_inputs: int, shape: Shape, num_outputs: int, num_classes: int | None = None, precise: bool = True
    ) -> Decoder:
        return _GridDecoder(self, self._sizes(shape), num_outputs, num_classes, precise)

    def blocks(self) -> list[nn.Module]:
        """Build the residual blocks of one size."""
        return [ResidualBlock(self.channels) for _ in range(self.num_blocks)]


class _GridEncoder(Encoder):
    def __init__(self, of: Grid, shape: Shape, num_classes: int | None) -> None:
        super().__init__()
        self.num_classes = num_classes
        channels = of.channels
        layers: list[nn.Module] = [nn.Conv2d(shape[0] + (num_classes or 0), channels, 3, padding=1)]
        for _ in range(of.halvings):
            layers += [*of.blocks(), nn.Conv2d(channels, channels, 3, stride=2, padding=1)]
        self.body = nn.Sequential(*layers, *of.blocks(), nn.GroupNorm(1, channels), nn.SiLU())
        self.last = nn.Conv2d(channels, 2 * of.latent_channels, 3, padding=1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        # Channel after channel, so that the first half are the means and the second the deviations.
        return self.last(self.body(with_class(2 * x - 1, y, self.num_classes))).flatten(1)


class _GridDecoder(Decoder):
    def __init__(
        self, of: Grid, sizes: list[tuple[int, int]], num_outputs: int, num_classes: int | None, precise: bool
    ) -> None:
        super().__init__(num_classes, precise)
        channels, self.latent_channels, self.size = of.channels, of.latent_channels, sizes[0]
        layers: list[nn.Module] = [nn.Conv2d(of.latent_channels + (num_classes or 0), channels, 3, padding=1)]
        for _, size in itertools.pairwise(sizes):
            layers += [*of.blocks(), Doubled(size), nn.Conv2d(channels, channels, 3, padding=1)]
        self.body = nn.Sequential(*layers, *of.blocks(), nn.GroupNorm(1, channels), nn.SiLU())
        self.last = nn.Conv2d(channels, num_outputs, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return super().forward(z.view(len(z), self.latent_channels, *self.size), y)
