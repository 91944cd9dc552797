"""R3GAN: The GAN is dead; long live the GAN! A Modern GAN Baseline (arXiv:2501.05441), its configuration E."""

import itertools
import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.layers.packing import packed
from genlab.layers.precision import own_precision
from genlab.layers.resampling import Smooth, doubled, resolutions, widths
from genlab.models.adversarial import AdversarialModel, given


class R3GAN(AdversarialModel):
    """R3GAN: generator and discriminator of inverted bottlenecks with grouped convolutions.

    There is no normalization; the weights are initialized as in Fixup (arXiv:1901.09321). Train it with
    ``gan/loss=relativistic gan/regularizer=[r1,r2]``.

    Args:
        shape: ``(C, H, W)`` of the images.
        num_classes: number of classes; None for an unconditional model.
        latent_dim: number of dimensions of z ~ N(0, I), and of the class embedding.
        channels: upper limit on the number of channels.
        channel_base: upper limit on the channels times the side; None for 32 times ``channels``.
        num_blocks: number of blocks per resolution.
        expansion: ratio of the channels inside a block to those outside.
        group_width: number of channels in a group of the 3x3 convolutions.
        pack: number of images that the discriminator judges together.
        float32_core: whether both networks' layers at the smallest resolution compute in float32 also in mixed
            precision, as in the authors' code.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None = None,
        latent_dim: int = 64,
        channels: int = 768,
        channel_base: int | None = None,
        num_blocks: int = 2,
        expansion: int = 2,
        group_width: int = 16,
        pack: int = 1,
        float32_core: bool = False,
    ) -> None:
        super().__init__(shape, num_classes, pack)
        if min(latent_dim, channels, num_blocks, expansion, group_width) < 1:
            raise InputError(
                f"latent_dim={latent_dim}, channels={channels}, num_blocks={num_blocks}, expansion={expansion}, "
                f"group_width={group_width}: at least 1 of each"
            )
        self.latent_dim = latent_dim
        sizes = resolutions(shape[1:])
        each = widths(channels, channel_base, sizes)
        if uneven := [width for width in each if width * expansion % group_width]:
            raise InputError(
                f"{uneven[0]} channels, {expansion} times as many inside, do not split into groups of {group_width}: "
                "change model.channels or model.group_width"
            )
        # Fixup scales the weights by the total number of blocks, so that the initial output does not depend on depth.
        fixup = (num_blocks * len(sizes)) ** -0.25  # L^(-1 / (2m - 2)) with m = 3 convolutions per block
        groups = [width * expansion // group_width for width in each]

        def stage(i: int) -> nn.Sequential:
            return nn.Sequential(*(Block(each[i], each[i] * expansion, groups[i], fixup) for _ in range(num_blocks)))

        stages = range(len(sizes))
        self.generator = Generator(
            shape[0], latent_dim, num_classes, sizes, each, [stage(i) for i in stages], float32_core
        )
        self.discriminator = Discriminator(
            shape, num_classes, each[::-1], [stage(i) for i in reversed(stages)], pack, float32_core
        )


class Generator(nn.Module):
    """Network from z ``(B, latent_dim)`` to images with black at 0 and white at 1; the values are not bounded."""

    def __init__(
        self,
        image_channels: int,
        latent_dim: int,
        num_classes: int | None,
        sizes: list[tuple[int, ...]],
        widths: list[int],
        stages: list[nn.Sequential],
        float32_first: bool,
    ) -> None:
        super().__init__()
        self.sizes, self.float32_first = sizes, float32_first
        self.embedding = _embedding(num_classes, latent_dim) if num_classes is not None else None
        self.basis = nn.Parameter(torch.randn(1, widths[0], *sizes[0]))
        self.to_basis = _scaled(nn.Linear(latent_dim * (1 if num_classes is None else 2), widths[0], bias=False))
        self.stages = nn.ModuleList(stages)
        self.transitions = nn.ModuleList(_transition(*pair) for pair in itertools.pairwise(widths))
        self.to_image = _scaled(nn.Conv2d(widths[-1], image_channels, 1, bias=False))

    def forward(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        if self.embedding is not None:
            z = torch.cat([z, self.embedding(given(y))], 1)
        with own_precision(z, self.float32_first):
            h = self.stages[0](self.basis * self.to_basis(z)[:, :, None, None])
        for transition, stage, size in zip(self.transitions, self.stages[1:], self.sizes[1:], strict=True):
            h = stage(doubled(transition(h), size))
        return (self.to_image(h).float() + 1) / 2


class Discriminator(nn.Module):
    """Network from images to logits ``(B / pack,)``, conditioned on the class by projection."""

    def __init__(
        self,
        shape: tuple[int, int, int],
        num_classes: int | None,
        widths: list[int],
        stages: list[nn.Sequential],
        pack: int,
        float32_last: bool,
    ) -> None:
        super().__init__()
        self.pack, self.float32_last = pack, float32_last
        image_channels, height, width = shape
        self.from_image = _scaled(nn.Conv2d(pack * image_channels, widths[0], 1, bias=False))
        self.stages = nn.ModuleList(stages)
        self.transitions = nn.ModuleList(_transition(*pair) for pair in itertools.pairwise(widths))
        self.halve = Smooth()
        for _ in self.transitions:
            height, width = height // 2, width // 2
        last = widths[-1]
        self.basis = _scaled(nn.Conv2d(last, last, (height, width), groups=last, bias=False))
        self.to_logit = _scaled(nn.Linear(last, 1 if num_classes is None else last, bias=False))
        self.embedding = None
        if num_classes is not None:
            self.embedding = _embedding(num_classes, last, gain=1 / math.sqrt(last))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        h = self.stages[0](self.from_image(2 * packed(x, self.pack) - 1))
        last = len(self.transitions) - 1
        for i, (transition, stage) in enumerate(zip(self.transitions, self.stages[1:], strict=True)):
            h = transition(self.halve(h))
            with own_precision(h, self.float32_last and i == last):
                h = stage(h.float() if self.float32_last and i == last else h)
        with own_precision(h, self.float32_last):
            h = self.to_logit(self.basis(h).flatten(1))
            if self.embedding is None:
                return h.squeeze(1)
            return (h * self.embedding(given(y)).view(len(h), self.pack, -1).sum(1)).sum(1)


class Block(nn.Module):
    """Residual block ``h + 1x1(act(grouped 3x3(act(1x1(h)))))``, initially the identity.

    Args:
        channels: number of channels outside the block.
        inside: number of channels inside the block.
        groups: number of groups of the 3x3 convolution.
        fixup: factor of the initial weights, in addition to He initialization.
    """

    def __init__(self, channels: int, inside: int, groups: int, fixup: float) -> None:
        super().__init__()
        gain = math.sqrt(2 / (1 + 0.2**2)) * fixup
        # The biases are those of the activations that follow the convolutions.
        self.conv1 = _scaled(nn.Conv2d(channels, inside, 1), gain)
        self.conv2 = _scaled(nn.Conv2d(inside, inside, 3, padding=1, groups=groups), gain)
        self.conv3 = _scaled(nn.Conv2d(inside, channels, 1, bias=False), 0.0)

    def forward(self, h: Tensor) -> Tensor:
        out = F.leaky_relu(self.conv1(h), 0.2)
        return h + self.conv3(F.leaky_relu(self.conv2(out), 0.2))


def _embedding(num_classes: int, features: int, gain: float = 1.0) -> nn.Embedding:
    """Build an embedding with weights from N(0, gain² / num_classes), like a linear layer on one-hot classes."""
    embedding = nn.Embedding(num_classes, features)
    nn.init.normal_(embedding.weight, std=gain / math.sqrt(num_classes))
    return embedding


def _transition(before: int, after: int) -> nn.Module:
    return _scaled(nn.Conv2d(before, after, 1, bias=False)) if before != after else nn.Identity()


def _scaled(layer: nn.Conv2d | nn.Linear, gain: float = 1.0) -> nn.Conv2d | nn.Linear:
    """Draw a layer's weights from N(0, gain² / fan-in) and set its bias to 0."""
    nn.init.normal_(layer.weight, std=gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
