"""DCGAN: Unsupervised Representation Learning with Deep Convolutional GANs (arXiv:1511.06434)."""

import itertools

import torch
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.models.base import AdversarialModel, given


class DCGAN(AdversarialModel):
    """Strided convolutions and batch normalisation, for any shape: sides are halved while they are at least 8.

    Args:
        latent_dim: dimensions of z ~ N(0, I).
        channels: of the layer next to the image; doubled at every halving.
    """

    def __init__(
        self, shape: tuple[int, int, int], num_classes: int | None = None, latent_dim: int = 100, channels: int = 64
    ) -> None:
        super().__init__(shape, num_classes)
        if latent_dim < 1 or channels < 1:
            raise InputError(f"a DCGAN needs latents and channels: latent_dim={latent_dim}, channels={channels}")
        self.latent_dim = latent_dim
        sizes = [self.shape[1:]]
        while min(sizes[-1]) >= 8:
            sizes.append(tuple(-(-side // 2) for side in sizes[-1]))
        widths = [channels * 2**i for i in range(len(sizes))]
        self.generator = Generator(shape[0], sizes[::-1], widths[::-1], latent_dim, num_classes)
        self.discriminator = Discriminator(shape[0], sizes, widths, num_classes)
        self.apply(_initialise)


class Generator(nn.Module):
    """z ``(B, latent_dim)`` to images in [0, 1], through the ``sizes`` from the smallest to the image's."""

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
            h = up(h)[:, :, :height, :width]  # an odd side was rounded up when it was halved
        return (torch.tanh(self.to_image(h)) + 1) / 2


class Discriminator(nn.Module):
    """Images in [0, 1] to logits ``(B,)``; a class is one more input channel."""

    def __init__(
        self, image_channels: int, sizes: list[tuple[int, ...]], widths: list[int], num_classes: int | None
    ) -> None:
        super().__init__()
        height, width = sizes[0]
        self.embedding = nn.Embedding(num_classes, height * width) if num_classes is not None else None
        inputs = image_channels + (num_classes is not None)
        layers: list[nn.Module] = [nn.Conv2d(inputs, widths[0], 3, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        for before, after in itertools.pairwise(widths):
            layers += [
                nn.Conv2d(before, after, 4, stride=2, padding=1, bias=False),
                nn.BatchNorm2d(after),
                nn.LeakyReLU(0.2, inplace=True),
            ]
        self.features = nn.Sequential(*layers, nn.Flatten())
        with torch.no_grad():
            num_features = self.features.eval()(torch.zeros(1, inputs, height, width)).shape[1]
        self.features.train()
        self.to_logit = nn.Linear(num_features, 1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = 2 * x - 1
        if self.embedding is not None:
            h = torch.cat([h, self.embedding(given(y)).view(len(x), 1, *x.shape[2:])], dim=1)
        return self.to_logit(self.features(h)).squeeze(1)


def _initialise(module: nn.Module) -> None:
    """Section 4 of the paper: weights from N(0, 0.02)."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
        nn.init.normal_(module.weight, 0.0, 0.02)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
