"""DDPM++, the U-Net of score models: sums of branches keep their variance, and sizes change within residual blocks."""

import math
from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.networks.time_embedding import TimeEmbedding
from genlab.networks.unet import attention, check_levels, normalization

EPS = 1e-6  # of the normalizations
Resampling = Literal["keep", "halve", "double"]


def convolution(inputs: int, outputs: int, side: int = 3, gain: float = 1.0) -> nn.Conv2d:
    """Build a convolution that keeps the sides, with uniform weights as Glorot and Bengio (2010) times a gain."""
    conv = nn.Conv2d(inputs, outputs, side, padding=side // 2)
    nn.init.xavier_uniform_(conv.weight, gain)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


class Block(nn.Module):
    """A residual block, ``(B, inputs, H, W)`` to ``(B, outputs, H', W')``, with attention after it if wanted.

    Each sum of two branches is divided by sqrt(2), so that its variance is that of one.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        condition: number of features of the time, by which the block's features are shifted.
        dropout: dropout probability before the second convolution.
        attends: whether all places attend to all places afterwards.
        resampling: whether the sides are halved by means of 2x2 places, doubled by repetition, or kept.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        condition: int,
        dropout: float,
        attends: bool = False,
        resampling: Resampling = "keep",
    ) -> None:
        super().__init__()
        self.resampling = resampling
        self.norm1, self.conv1 = normalization(inputs, eps=EPS), convolution(inputs, outputs)
        self.condition = nn.Linear(condition, outputs)
        nn.init.xavier_uniform_(self.condition.weight)
        nn.init.zeros_(self.condition.bias)
        self.norm2, self.dropout = normalization(outputs, eps=EPS), nn.Dropout(dropout)
        self.conv2 = convolution(outputs, outputs, gain=1e-5)
        changes = inputs != outputs or resampling != "keep"
        self.shortcut = convolution(inputs, outputs, 1) if changes else nn.Identity()
        self.norm3 = normalization(outputs, eps=EPS) if attends else None
        if attends:
            self.qkv = convolution(outputs, 3 * outputs, 1, math.sqrt(0.2))
            self.out = convolution(outputs, outputs, 1, 1e-5)

    def _resampled(self, h: Tensor) -> Tensor:
        if self.resampling == "halve":
            return F.avg_pool2d(h, 2)
        return F.interpolate(h, scale_factor=2, mode="nearest") if self.resampling == "double" else h

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        out = self.conv1(self._resampled(F.silu(self.norm1(h))))
        out = self.norm2(out + self.condition(condition)[:, :, None, None])
        out = self.conv2(self.dropout(F.silu(out)))
        h = (self.shortcut(self._resampled(h)) + out) * math.sqrt(0.5)
        if self.norm3 is None:
            return h
        qkv = self.qkv(self.norm3(h)).flatten(2).unflatten(1, (3, 1, -1)).transpose(3, 4)
        found = attention(*qkv.unbind(1)).transpose(2, 3).reshape(h.shape)
        return (h + self.out(found)) * math.sqrt(0.5)


class DDPMpp(nn.Module):
    """Network from noisy images, times and classes to images: ``(B, C, H, W)`` to the same shape.

    DDPM++ of Score-Based Generative Modeling through Stochastic Differential Equations (arXiv:2011.13456), as
    Elucidating the Design Space of Diffusion-Based Generative Models (arXiv:2206.00364) uses it; the defaults are those
    of the latter for CIFAR-10 but for the width, which is 128 there. Sides that cannot be halved often enough are
    padded with zeros, and the result is cut.

    Args:
        shape: image shape ``(C, H, W)``.
        num_times: number of times of an image.
        num_classes: number of classes; None for none.
        time_scale: factor of the times in their embedding.
        width: number of channels of the first convolution, which ``multipliers`` multiply.
        multipliers: number of channels at each size, as a multiple of ``width``; each size halves the sides.
        num_blocks: number of residual blocks at each size on the way down; there is one more on the way up.
        attention_levels: sizes with attention, as indices into ``multipliers``: after each block on the way down, and
            after the last one on the way up. There is always one in the middle, at the smallest size.
        dropout: dropout probability.

    Raises:
        InputError: if the shape is not an image's, or an option is out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_times: int = 1,
        num_classes: int | None = None,
        time_scale: float = 1000.0,
        *,
        width: int = 32,
        multipliers: Sequence[int] = (2, 2, 2),
        num_blocks: int = 4,
        attention_levels: Sequence[int] = (1,),
        dropout: float = 0.13,
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: DDPM++ is for images (C, H, W); use diffusion/networks=mlp")
        if not multipliers or min(num_blocks, *multipliers) < 1 or width < 4:
            raise InputError(
                f"width={width}, multipliers={list(multipliers)}, num_blocks={num_blocks}: expected a width of at "
                "least 4, and at least 1 of each other"
            )
        check_levels(attention_levels, multipliers)
        self.divisor = 2 ** (len(multipliers) - 1)
        self.embedding = TimeEmbedding(4 * width, num_times, num_classes, 2 * (width // 2), time_scale)

        def block(inputs: int, outputs: int, attends: bool = False, resampling: Resampling = "keep") -> Block:
            return Block(inputs, outputs, 4 * width, dropout, attends, resampling)

        self.first = convolution(shape[0], width)
        channels, kept = width, [width]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for level, multiplier in enumerate(multipliers):
            if level > 0:
                self.down.append(block(channels, channels, resampling="halve"))
                kept.append(channels)
            for _ in range(num_blocks):
                self.down.append(block(channels, width * multiplier, level in attention_levels))
                channels = width * multiplier
                kept.append(channels)
        self.middle = nn.ModuleList([block(channels, channels, True), block(channels, channels)])
        for level, multiplier in reversed(list(enumerate(multipliers))):
            if level < len(multipliers) - 1:
                self.up.append(block(channels, channels, resampling="double"))
            for i in range(num_blocks + 1):
                attends = i == num_blocks and level in attention_levels
                self.up.append(block(channels + kept.pop(), width * multiplier, attends))
                channels = width * multiplier
        self.norm, self.last = normalization(channels, eps=EPS), convolution(channels, shape[0], gain=1e-5)

    def forward(self, x: Tensor, times: Tensor, y: Tensor | None = None) -> Tensor:
        H, W = x.shape[2:]
        condition = F.silu(self.embedding(times, y))
        h = self.first(F.pad(x, [0, -W % self.divisor, 0, -H % self.divisor]))
        kept = [h]
        for block in self.down:
            h = block(h, condition)
            kept.append(h)
        for block in self.middle:
            h = block(h, condition)
        for block in self.up:
            widens = block.resampling == "double"
            h = block(h if widens else torch.cat([h, kept.pop()], 1), condition)
        return self.last(F.silu(self.norm(h)))[:, :, :H, :W]
