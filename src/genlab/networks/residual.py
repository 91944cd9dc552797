"""The residual networks of SNGAN, SAGAN and BigGAN: Spectral Normalization for Generative Adversarial Networks
(arXiv:1802.05957), appendix B.4."""

import itertools
import math

import torch.nn.functional as F
from torch import Tensor, nn

from genlab.layers.packing import packed
from genlab.layers.resampling import widths
from genlab.layers.self_attention2d import SelfAttention2d


class PlainBatchNorm2d(nn.BatchNorm2d):
    """For a generator without a condition."""

    def forward(self, h: Tensor, condition: Tensor | None = None) -> Tensor:
        return super().forward(h)


class GeneratorBlock(nn.Module):
    """``(B, inputs, H, W)`` to ``(B, outputs, *size)``, of twice the sides.

    Args:
        norms: before each of the two convolutions.
        size: of the result; an odd side was rounded up when it was halved.
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
        shortcut = self._doubled(self.shortcut(h))  # the same as of the doubled features, and cheaper
        h = self.conv1(self._doubled(F.relu(self.norm1(h, condition))))
        return shortcut + self.conv2(F.relu(self.norm2(h, condition)))


class DiscriminatorBlock(nn.Module):
    """``(B, inputs, H, W)`` to ``(B, outputs, H, W)``, or with ``downsample`` half the sides, rounded down.

    Args:
        first: the block that sees images, which are not passed through a ReLU.
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
        shortcut = self.shortcut(self._halved(h))  # the same as halved after it, and cheaper
        h = self.conv2(F.relu(self.conv1(h if self.first else F.relu(h))))
        return shortcut + self._halved(h)


class ResidualDiscriminator(nn.Module):
    """Images in [0, 1] to logits ``(B / pack,)``; classes by projection (arXiv:1802.05637).

    A block for each halving of the sides until the smaller one is at most 8 (of small images one halving all the same),
    and two blocks more.

    Args:
        shape: of an image.
        channels, channel_base: see :func:`~genlab.layers.resampling.widths`.
        num_classes: ``None`` for an unconditional D.
        pack: images that are seen as one.
        attention: self-attention at the first features with a side of at most this; ``None`` for none.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        channels: int,
        channel_base: int | None = None,
        num_classes: int | None = None,
        pack: int = 1,
        attention: int | None = None,
    ) -> None:
        super().__init__()
        self.pack = pack
        size, sizes = shape[1:], [shape[1:]]  # that the halving blocks see
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
        h = F.relu(self.blocks(2 * packed(x, self.pack) - 1)).sum((2, 3))
        logit = self.to_logit(h).squeeze(1)
        if self.embedding is not None:
            of_class = self.embedding(y).view(len(h), self.pack, -1).sum(1)
            logit = logit + (of_class * h).sum(1)
        return logit


def initialise_xavier(module: nn.Module) -> None:
    """Uniform after Glorot, the convolutions of 3x3 with a gain for their ReLU.

    So do SNGAN's authors, but for the last convolution of G, which has no gain there.
    """
    if isinstance(module, nn.Conv2d | nn.Linear):
        gain = math.sqrt(2) if isinstance(module, nn.Conv2d) and module.kernel_size == (3, 3) else 1.0
        nn.init.xavier_uniform_(module.weight, gain)
        if module.bias is not None:
            nn.init.zeros_(module.bias)


def initialise_orthogonal(module: nn.Module) -> None:
    """As BigGAN does."""
    if isinstance(module, nn.Conv2d | nn.Linear | nn.Embedding):
        nn.init.orthogonal_(module.weight)
        if isinstance(module.bias if hasattr(module, "bias") else None, Tensor):
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
