"""The DCGAN of the benchmark StudioGAN (arXiv:2206.09479), of which FIDs of a DCGAN on CIFAR-10 are quoted.

It has other networks than the paper (arXiv:1511.06434, :mod:`genlab.models.gan.dcgan`): the discriminator has twice as
many convolutions, and all of them have batch normalization, also the first.
"""

import itertools

from torch import Tensor, nn
from torch.nn import functional as F

from genlab.errors import InputError
from genlab.layers.conditional_norm import ConditionalBatchNorm2d
from genlab.layers.packing import packed
from genlab.layers.resampling import resolutions
from genlab.models.adversarial import AdversarialModel, given
from genlab.networks.residual import PlainBatchNorm2d, initialise_orthogonal

EPS = 1e-4  # added to the variances of batch normalization


class StudioDCGAN(AdversarialModel):
    """StudioGAN's DCGAN, for images of any shape; sides are halved while they are at least 8.

    With classes, the generator has conditional batch normalization and the discriminator a projection.

    Args:
        shape: ``(C, H, W)`` of the images.
        num_classes: number of classes; None for an unconditional model.
        latent_dim: number of dimensions of z ~ N(0, I).
        channels: number of channels at full resolution; doubled whenever the sides are halved.
        pack: number of images that the discriminator judges together.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        latent_dim: int = 128,
        channels: int = 64,
        pack: int = 1,
    ) -> None:
        super().__init__(shape, num_classes, pack)
        if min(latent_dim, channels) < 1:
            raise InputError(f"a DCGAN needs latents and channels: latent_dim={latent_dim}, channels={channels}")
        self.latent_dim = latent_dim
        sizes = resolutions(self.shape[1:])
        widths = [channels * 2**i for i in range(len(sizes))]
        self.generator = Generator(shape[0], sizes, widths[::-1], latent_dim, num_classes)
        self.discriminator = Discriminator(shape[0], widths, num_classes, pack)
        self.apply(initialise_orthogonal)
        for module in self.generator.modules():
            if isinstance(module, nn.Embedding):
                nn.init.zeros_(module.weight)  # at first, all classes are normalized alike


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
        self.conditional = num_classes is not None
        height, width = sizes[0]
        # The projection has neither batch normalization nor a ReLU.
        self.project = nn.Sequential(
            nn.Linear(latent_dim, widths[0] * height * width), nn.Unflatten(1, (widths[0], height, width))
        )
        self.up = nn.ModuleList(
            Up(before, after, size, num_classes)
            for (before, after), size in zip(itertools.pairwise(widths), sizes[1:], strict=True)
        )
        self.to_image = nn.Conv2d(widths[-1], image_channels, 3, padding=1)

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        condition = given(y) if self.conditional else None
        h = self.project(z)
        for up in self.up:
            h = up(h, condition)
        return (self.to_image(h).tanh() + 1) / 2


class Up(nn.Module):
    """Transposed convolution, batch normalization and ReLU: ``(B, inputs, H, W)`` to ``(B, outputs, *size)``."""

    def __init__(self, inputs: int, outputs: int, size: tuple[int, ...], num_classes: int | None) -> None:
        super().__init__()
        self.size = size
        self.conv = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        self.norm: nn.Module = PlainBatchNorm2d(outputs, eps=EPS)
        if num_classes is not None:
            self.norm = ConditionalBatchNorm2d(outputs, nn.Embedding(num_classes, 2 * outputs))

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        h = self.conv(h)[:, :, : self.size[0], : self.size[1]]  # doubling gives one pixel too many if the side is odd
        return F.relu(self.norm(h, condition))


class Discriminator(nn.Module):
    """Network from images in [0, 1] to logits ``(B / pack,)``: two convolutions per resolution, and one at the last."""

    def __init__(self, image_channels: int, widths: list[int], num_classes: int | None, pack: int) -> None:
        super().__init__()
        self.pack = pack
        layers: list[nn.Module] = []
        for before, after in itertools.pairwise([pack * image_channels, *widths[:-1]]):
            layers += _convolved(nn.Conv2d(before, after, 3, padding=1))
            layers += _convolved(nn.Conv2d(after, after, 4, stride=2, padding=1))
        before, last = [pack * image_channels, *widths][-2:]
        self.features = nn.Sequential(*layers, *_convolved(nn.Conv2d(before, last, 3, padding=1)))
        self.to_logit = nn.Linear(last, 1)
        self.embedding = nn.Embedding(num_classes, last) if num_classes is not None else None

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.features(2 * packed(x, self.pack) - 1).sum((2, 3))
        logit = self.to_logit(h).squeeze(1)
        if self.embedding is None:
            return logit
        return logit + (self.embedding(given(y)).view(len(h), self.pack, -1).sum(1) * h).sum(1)


def _convolved(conv: nn.Conv2d) -> list[nn.Module]:
    """List a convolution, its batch normalization and a ReLU."""
    return [conv, nn.BatchNorm2d(conv.out_channels, eps=EPS), nn.ReLU(inplace=True)]
