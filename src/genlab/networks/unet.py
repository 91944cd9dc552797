"""The U-Net of diffusion models: residual blocks at several sizes, with shortcuts from the way down to the way up."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.networks.time_embedding import TimeEmbedding


def normalization(channels: int, group_size: int = 4, eps: float = 1e-5) -> nn.GroupNorm:
    """Build a group normalization of 32 groups, or of fewer that divide the channels and have enough of them.

    Groups of one channel would take its mean away from every image, and at a size of 1x1 everything.

    Args:
        channels: number of channels.
        group_size: least number of channels in a group; 4 as in EDM (arXiv:2206.00364).
        eps: number added to the variance of a group.
    """
    most = max(1, min(32, channels // group_size))
    return nn.GroupNorm(next(n for n in range(most, 0, -1) if channels % n == 0), channels, eps)


def check_levels(attention_levels: Sequence[int], multipliers: Sequence[int]) -> None:
    """Check that sizes with attention are indices into the sizes of a U-Net.

    Raises:
        InputError: if one is not.
    """
    if not all(0 <= level < len(multipliers) for level in attention_levels):
        raise InputError(
            f"attention_levels={list(attention_levels)}: expected indices, from 0, of {len(multipliers)} sizes"
        )


class ResidualBlock(nn.Module):
    """Two convolutions whose features depend on the time: ``(B, inputs, H, W)`` to ``(B, outputs, H, W)``.

    Args:
        inputs: number of input channels.
        outputs: number of output channels.
        condition: number of features of the time.
        dropout: dropout probability before the second convolution.
        scale_shift: whether the time also scales the features, as in Diffusion Models Beat GANs (arXiv:2105.05233), and
            not only shifts them, as in DDPM.
        group_size: least number of channels in a group of a normalization.
    """

    def __init__(
        self, inputs: int, outputs: int, condition: int, dropout: float, scale_shift: bool, group_size: int
    ) -> None:
        super().__init__()
        self.norm1 = normalization(inputs, group_size)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.condition = nn.Linear(condition, (1 + scale_shift) * outputs)
        self.norm2 = normalization(outputs, group_size)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]
        self.shortcut = nn.Conv2d(inputs, outputs, 1) if inputs != outputs else nn.Identity()
        self.scale_shift = scale_shift

    def forward(self, h: Tensor, condition: Tensor) -> Tensor:
        out = self.conv1(F.silu(self.norm1(h)))
        condition = self.condition(F.silu(condition))[:, :, None, None]
        if self.scale_shift:
            scale, shift = condition.chunk(2, 1)
            out = self.norm2(out) * (1 + scale) + shift
        else:
            out = self.norm2(out + condition)
        return self.shortcut(h) + self.conv2(self.dropout(F.silu(out)))


class PlaceAttention(nn.Module):
    """Attention of all places to all places, added to the features ``(B, channels, H, W)``."""

    def __init__(self, channels: int, num_heads: int, group_size: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.norm = normalization(channels, group_size)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.out = nn.Conv2d(channels, channels, 1)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)  # type: ignore[arg-type]

    def forward(self, h: Tensor) -> Tensor:
        qkv = self.qkv(self.norm(h)).flatten(2).unflatten(1, (3, self.num_heads, -1)).transpose(3, 4)
        q, k, v = qkv.unbind(1)
        return h + self.out(attention(q, k, v).transpose(2, 3).reshape(h.shape))


def attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend without a mask; queries, keys, values and the result are ``(B, heads, T, head_dim)``.

    PyTorch's fused kernels have no derivative along a direction, which models with a tangent need; there, the products
    are written out.
    """
    if torch.autograd.forward_ad._current_level >= 0:
        return torch.softmax(q @ k.transpose(2, 3) / q.shape[3] ** 0.5, -1) @ v
    return F.scaled_dot_product_attention(q, k, v)


class Level(nn.Module):
    """Blocks at one size, each followed by attention if the size has it."""

    def __init__(self, blocks: Sequence[ResidualBlock], attentions: Sequence[nn.Module]) -> None:
        super().__init__()
        self.blocks, self.attentions = nn.ModuleList(blocks), nn.ModuleList(attentions)


class UNet(nn.Module):
    """Network from noisy images, times and classes to images: ``(B, C, H, W)`` to the same shape.

    Denoising Diffusion Probabilistic Models (arXiv:2006.11239), appendix B; with ``width=128``,
    ``multipliers=[1, 2, 2, 2]``, ``num_blocks=2``, ``attention_levels=[1]`` and ``scale_shift=False`` it is the paper's
    for CIFAR-10. Sides that cannot be halved often enough are padded with zeros, and the result is cut.

    Args:
        shape: image shape ``(C, H, W)``.
        num_times: number of times of an image.
        num_classes: number of classes; None for none.
        time_scale: factor of the times in their embedding.
        width: number of channels at the full size.
        multipliers: number of channels at each size, as a multiple of ``width``; each size halves the sides.
        num_blocks: number of residual blocks at each size on the way down; there is one more on the way up.
        attention_levels: sizes at which attention follows each block, as indices into ``multipliers``; there is always
            one attention in the middle, at the smallest size.
        num_heads: number of heads of the attention.
        dropout: dropout probability.
        scale_shift: whether the time scales and shifts features; False for shifts alone.
        group_size: least number of channels in a group of a normalization.

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
        multipliers: Sequence[int] = (1, 2, 2),
        num_blocks: int = 1,
        attention_levels: Sequence[int] = (2,),
        num_heads: int = 1,
        dropout: float = 0.0,
        scale_shift: bool = True,
        group_size: int = 4,
    ) -> None:
        super().__init__()
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: a U-Net is for images (C, H, W); use diffusion/networks=mlp")
        if not multipliers or min(width, num_blocks, num_heads, group_size, *multipliers) < 1:
            raise InputError(
                f"width={width}, multipliers={list(multipliers)}, num_blocks={num_blocks}, num_heads={num_heads}, "
                f"group_size={group_size}: expected at least 1 of each"
            )
        check_levels(attention_levels, multipliers)
        if any(width * multiplier % num_heads for multiplier in multipliers):
            raise InputError(f"width={width} times multipliers does not split into num_heads={num_heads}")
        self.divisor = 2 ** (len(multipliers) - 1)
        self.embedding = TimeEmbedding(4 * width, num_times, num_classes, width if width >= 64 else 64, time_scale)

        def block(inputs: int, outputs: int) -> ResidualBlock:
            return ResidualBlock(inputs, outputs, 4 * width, dropout, scale_shift, group_size)

        def attend(channels: int, level: int) -> nn.Module:
            return PlaceAttention(channels, num_heads, group_size) if level in attention_levels else nn.Identity()

        self.first = nn.Conv2d(shape[0], width, 3, padding=1)
        channels, kept = width, [width]  # channels of the features now, and of those that are kept for the way up
        self.down, self.shrink = nn.ModuleList(), nn.ModuleList()
        for i, multiplier in enumerate(multipliers):
            blocks, attentions = [], []
            for _ in range(num_blocks):
                blocks.append(block(channels, width * multiplier))
                channels = width * multiplier
                attentions.append(attend(channels, i))
                kept.append(channels)
            self.down.append(Level(blocks, attentions))
            if i < len(multipliers) - 1:
                self.shrink.append(nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                kept.append(channels)
        self.middle = nn.ModuleList([block(channels, channels), block(channels, channels)])
        self.middle_attention = PlaceAttention(channels, num_heads, group_size)
        self.up, self.grow = nn.ModuleList(), nn.ModuleList()
        for i, multiplier in reversed(list(enumerate(multipliers))):
            blocks, attentions = [], []
            for _ in range(num_blocks + 1):
                blocks.append(block(channels + kept.pop(), width * multiplier))
                channels = width * multiplier
                attentions.append(attend(channels, i))
            self.up.append(Level(blocks, attentions))
            if i > 0:
                self.grow.append(nn.Conv2d(channels, channels, 3, padding=1))
        self.norm = normalization(channels, group_size)
        self.last = nn.Conv2d(channels, shape[0], 3, padding=1)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor, times: Tensor, y: Tensor | None = None) -> Tensor:
        H, W = x.shape[2:]
        condition = self.embedding(times, y)
        h = self.first(F.pad(x, [0, -W % self.divisor, 0, -H % self.divisor]))
        kept = [h]
        for i, level in enumerate(self.down):
            for block, attend in zip(level.blocks, level.attentions, strict=True):  # type: ignore[arg-type]
                h = attend(block(h, condition))
                kept.append(h)
            if i < len(self.shrink):
                h = self.shrink[i](h)
                kept.append(h)
        first, second = self.middle
        h = second(self.middle_attention(first(h, condition)), condition)
        for i, level in enumerate(self.up):
            for block, attend in zip(level.blocks, level.attentions, strict=True):  # type: ignore[arg-type]
                h = attend(block(torch.cat([h, kept.pop()], 1), condition))
            if i < len(self.grow):
                h = self.grow[i](F.interpolate(h, scale_factor=2, mode="nearest"))
        return self.last(F.silu(self.norm(h)))[:, :, :H, :W]
