"""The residual networks of SNGAN, SAGAN and BigGAN.

Spectral Normalization for Generative Adversarial Networks (arXiv:1802.05957), appendix B.4.
"""

import itertools
import math
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from genlab.layers.packing import packed
from genlab.layers.resampling import widths
from genlab.layers.self_attention2d import SelfAttention2d


class PlainBatchNorm2d(nn.BatchNorm2d):
    """Batch normalization for a generator without a condition; accepts a condition and ignores it."""

    def forward(self, h: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(h)


class GeneratorBlock(nn.Module):
    """Residual block that doubles the sides: ``(B, inputs, H, W)`` to ``(B, outputs, *size)``.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        norms: normalization layers before the two convolutions.
        size: ``(H', W')`` of the result: twice the sides, or one less for an odd side.
    """

    def __init__(self, inputs: int, outputs: int, norms: tuple[nn.Module, nn.Module], size: tuple[int, ...]) -> None:
        super().__init__()
        self.norm1, self.norm2 = norms
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        self.size = size

    def _doubled(self, h: Tensor) -> Tensor:
        return F.interpolate(h, scale_factor=2, mode="nearest")[:, :, : self.size[0], : self.size[1]]

    def forward(self, h: Tensor, condition: Tensor | None) -> Tensor:
        shortcut = self._doubled(self.shortcut(h))  # convolving before doubling gives the same and is cheaper
        h = self.conv1(self._doubled(F.relu(self.norm1(h, condition))))
        return shortcut + self.conv2(F.relu(self.norm2(h, condition)))


class DiscriminatorBlock(nn.Module):
    """Residual block: ``(B, inputs, H, W)`` to ``(B, outputs, H, W)``, or to half the sides, rounded down.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        downsample: whether to halve the sides.
        first: whether the block sees images, to which no ReLU is applied.
    """

    def __init__(self, inputs: int, outputs: int, downsample: bool, first: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs or downsample else nn.Identity()
        self.downsample, self.first = downsample, first

    def _halved(self, h: Tensor) -> Tensor:
        return F.avg_pool2d(h, 2) if self.downsample else h

    def forward(self, h: Tensor) -> Tensor:
        shortcut = self.shortcut(self._halved(h))  # halving before the convolution gives the same and is cheaper
        h = self.conv2(F.relu(self.conv1(h if self.first else F.relu(h))))
        return shortcut + self._halved(h)


class ResidualDiscriminator(nn.Module):
    """Network from images in [0, 1] to logits ``(B / pack,)``; classes enter by projection (arXiv:1802.05637).

    Blocks halve the sides until the smaller one is at most 8 (even small images are halved once); two more blocks
    follow.

    Args:
        shape: shape ``(C, H, W)`` of an image.
        channels: upper limit on the number of channels; see :func:`~genlab.layers.resampling.widths`.
        channel_base: upper limit on channels times side; see :func:`~genlab.layers.resampling.widths`.
        num_classes: number of classes; ``None`` for an unconditional discriminator.
        pack: number of images that are joined to one input (PacGAN).
        attention: self-attention is applied once, to the first features whose smaller side is at most this; ``None``
            for no attention.
        pooling: whether the last features are summed or averaged over places.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int,
        channel_base: int | None = None,
        num_classes: int | None = None,
        pack: int = 1,
        attention: int | None = None,
        pooling: Literal["sum", "mean"] = "sum",
    ) -> None:
        super().__init__()
        self.pack, self.pooling = pack, pooling
        size, sizes = shape[1:], [shape[1:]]  # sizes: the input sizes of the halving blocks
        while min(sizes[-1]) > 16:
            sizes.append((sizes[-1][0] // 2, sizes[-1][1] // 2))
        outputs = [*widths(channels, channel_base, sizes), channels, channels]
        layers: list[nn.Module] = []
        for i, (before, after) in enumerate(itertools.pairwise([pack * shape[0], *outputs])):
            halved = i < len(sizes)
            layers.append(DiscriminatorBlock(before, after, downsample=halved, first=i == 0))
            if halved:
                size = (size[0] // 2, size[1] // 2)
            if attention is not None and min(size) <= attention:
                layers.append(SelfAttention2d(after))
                attention = None
        self.blocks = nn.Sequential(*layers)
        self.to_logit = nn.Linear(channels, 1)
        self.embedding = nn.Embedding(num_classes, channels) if num_classes is not None else None

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = F.relu(self.blocks(2 * packed(x, self.pack) - 1))
        h = h.sum((2, 3)) if self.pooling == "sum" else h.mean((2, 3))
        logit = self.to_logit(h).squeeze(1)
        if self.embedding is not None:
            of_class = self.embedding(y).view(len(h), self.pack, -1).sum(1)
            logit = logit + (of_class * h).sum(1)
        return logit


def initialise_xavier(module: nn.Module) -> None:
    """Initialise weights uniformly after Glorot; 3x3 convolutions have a gain of √2 for their ReLU.

    SNGAN's authors do the same, except that their last convolution of G has no gain.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        gain = math.sqrt(2) if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) else 1.0
        nn.init.xavier_uniform_(module.weight, gain)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def initialise_orthogonal(module: nn.Module) -> None:
    """Initialise weights orthogonally and biases to 0, as BigGAN does."""
    if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.Embedding):
        nn.init.orthogonal_(module.weight)
        if isinstance(module.bias if hasattr(module, "bias") else None, Tensor):
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
