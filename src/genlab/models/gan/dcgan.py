"""DCGAN, a GAN of strided convolutions.

Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Networks (arXiv:1511.06434).
"""

import itertools
from typing import Literal

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.layers.minibatch_std import MinibatchStd
from genlab.layers.packing import packed
from genlab.layers.resampling import resolutions
from genlab.layers.spectral import spectrally_normalized
from genlab.models.adversarial import AdversarialModel, given


class DCGAN(AdversarialModel):
    """DCGAN: strided convolutions and batch normalization, for any shape; sides are halved while they are at least 8.

    Args:
        shape: ``(C, H, W)`` of the images.
        num_classes: number of classes; None for an unconditional model.
        latent_dim: number of dimensions of z ~ N(0, I).
        channels: number of channels at full resolution; doubled whenever the sides are halved.
        discriminator_channels: the same number for the discriminator; None for ``channels``.
        normalization: normalization of the discriminator: ``"batch"`` as in the paper, ``"spectral"``, or ``"none"``,
            which gradient penalties need, because batch normalization mixes the gradients of the images.
        minibatch_std: number of images that the discriminator compares, see
            :class:`~genlab.layers.minibatch_std.MinibatchStd`; None for no comparison.
        pack: number of images that the discriminator judges together.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        latent_dim: int = 100,
        channels: int = 64,
        discriminator_channels: int | None = None,
        normalization: Literal["batch", "spectral", "none"] = "batch",
        minibatch_std: PositiveInt | None = None,
        pack: int = 1,
    ) -> None:
        super().__init__(shape, num_classes, pack)
        discriminator_channels = discriminator_channels or channels
        if min(latent_dim, channels, discriminator_channels) < 1:
            raise InputError(f"a DCGAN needs latents and channels: latent_dim={latent_dim}, channels={channels}")
        self.latent_dim = latent_dim
        sizes = resolutions(self.shape[1:])
        widths = [channels * 2**i for i in range(len(sizes))]
        self.generator = Generator(shape[0], sizes, widths[::-1], latent_dim, num_classes)
        widths = [discriminator_channels * 2**i for i in range(len(sizes))]
        self.discriminator = Discriminator(
            shape, widths, num_classes, batch_norm=normalization == "batch", minibatch_std=minibatch_std, pack=pack
        )
        self.apply(_initialise)
        if normalization == "spectral":
            spectrally_normalized(self.discriminator)


class Generator(nn.Module):
    """Network from z ``(B, latent_dim)`` to images in [0, 1]; ``sizes`` lists all resolutions, smallest first."""

    def __init__(
        self,
        image_channels: int,
        sizes: list[tuple[int, ...]],
        widths: list[int],
        latent_dim: int,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        self.sizes = sizes
        self.embedding = nn.Embedding(num_classes, latent_dim) if num_classes is not None else None
        height, width = sizes[0]
        inputs = latent_dim * (1 if num_classes is None else 2)
        self.project = nn.Sequential(
            nn.Linear(inputs, widths[0] * height * width, bias=False),
            nn.Unflatten(1, (widths[0], height, width)),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.up = nn.ModuleList(
            nn.Sequential(
                nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(outputs),
                nn.ReLU(inplace=True),
            )
            for inputs, outputs in itertools.pairwise(widths)
        )
        self.to_image = nn.Conv2d(widths[-1], image_channels, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(given(y))], dim=1)
        h = self.project(z)
        for up, (height, width) in zip(self.up, self.sizes[1:], strict=True):
            h = up(h)[:, :, :height, :width]  # doubling gives one pixel too many if the side is odd
        return (torch.tanh(self.to_image(h)) + 1) / 2


class Discriminator(nn.Module):
    """Network from images in [0, 1] to logits ``(B / pack,)``; the class is embedded as an additional input channel."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        widths: list[int],
        num_classes: int | None,
        *,
        batch_norm: bool,
        minibatch_std: int | None,
        pack: int,
    ) -> None:
        super().__init__()
        image_channels, height, width = shape
        self.pack = pack
        self.embedding = nn.Embedding(num_classes, height * width) if num_classes is not None else None
        inputs = pack * (image_channels + (num_classes is not None))
        layers: list[nn.Module] = [nn.Conv2d(inputs, widths[0], 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for before, after in itertools.pairwise(widths):
            height, width = height // 2, width // 2
            layers.append(nn.Conv2d(before, after, 4, stride=2, padding=1, bias=not batch_norm))
            if batch_norm:
                layers.append(nn.BatchNorm2d(after))
            layers.append(nn.LeakyReLU(0.2, inplace=True))
        if minibatch_std is not None:
            layers.append(MinibatchStd(minibatch_std))
        self.features = nn.Sequential(*layers, nn.Flatten())
        self.to_logit = nn.Linear((widths[-1] + (minibatch_std is not None)) * height * width, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = 2 * x - 1
        if self.embedding is not None:
            h = torch.cat([h, self.embedding(given(y)).view(len(x), 1, *x.shape[2:])], dim=1)
        return self.to_logit(self.features(packed(h, self.pack))).squeeze(1)


def _initialise(module: nn.Module) -> None:
    """Draw the weights from a normal distribution with standard deviation 0.02, as in section 4 of the paper."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
