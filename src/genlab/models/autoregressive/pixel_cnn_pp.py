"""PixelCNN++: images drawn pixel by pixel by two streams of convolutions, which look up, and up and to the left."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrize

from genlab.distributions.colour import jointly
from genlab.distributions.drawing import Draws
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.elu import elu
from genlab.layers.gated_resnet import GatedResnet
from genlab.layers.precision import channels_last_on_cpu, own_precision
from genlab.layers.shifted_conv import DownConv, DownRightConv, ShiftedCache, ShiftedConv2d
from genlab.layers.weight_norm import initialize_pixel_network, normalize_weights
from genlab.models.adversarial import given
from genlab.models.base import AutoregressiveModel


class Level(nn.Module):
    """One stream at one resolution, which contains the coarser resolutions: down to the smallest map and back up.

    Every block on the way up also reads the features of the matching block on the way down (a skip connection). If the
    stream depends on another one, every block also reads that stream's features.

    Args:
        channels: channels of all features.
        conv: function that builds a convolution of the stream from its input channels, output channels and
            ``kernel_size``.
        kernel_size: kernel size of the convolutions, rows and columns.
        enlarge: function that builds the layer that doubles the sides of the next coarser map.
        told: whether the blocks also read another stream's features.
        num_blocks: number of blocks on the way down. The way up has one block more, or as many at the smallest map.
        num_coarser: number of coarser maps, each half as large as the one before.
        num_classes: number of classes, which add a learned bias to the gates of every block; None for an unconditional
            model.
        dropout: dropout probability of the blocks.
    """

    def __init__(
        self,
        channels: int,
        conv: Callable[..., ShiftedConv2d],
        kernel_size: tuple[int, int],
        enlarge: Callable[[], nn.ConvTranspose2d],
        told: bool,
        num_blocks: int,
        num_coarser: int,
        num_classes: int | None,
        dropout: float,
    ) -> None:
        super().__init__()
        within = partial(conv, kernel_size=kernel_size)
        beside = channels if told else 0
        self.descend = nn.ModuleList(GatedResnet(channels, within, beside, dropout) for _ in range(num_blocks))
        num_up = num_blocks + (num_coarser > 0)
        self.ascend = nn.ModuleList(GatedResnet(channels, within, channels + beside, dropout) for _ in range(num_up))
        self.coarser: Level | None = None
        if num_coarser:
            self.halve = within(channels, channels, stride=2)
            self.coarser = Level(
                channels, conv, kernel_size, enlarge, told, num_blocks, num_coarser - 1, num_classes, dropout
            )
            self.enlarge = enlarge()
            nn.init.normal_(self.enlarge.weight, std=channels**-0.5)
        if num_classes is not None:
            self.class_bias = nn.Embedding(num_classes, (num_blocks + num_up) * 2 * channels)
            nn.init.zeros_(self.class_bias.weight)

    def convs(self, width: int) -> Iterator[tuple[ShiftedConv2d, int]]:
        """List the convolutions of all resolutions, each with the width of the map that it reads.

        Args:
            width: width of this level's map.
        """
        for module in (*self.descend, *self.ascend):
            yield from ((conv, width) for conv in module.modules() if isinstance(conv, ShiftedConv2d))
        if self.coarser is not None:
            yield self.halve, width
            yield from self.coarser.convs(-(-width // 2))

    def forward(
        self, x: Tensor, told: Sequence[Sequence[Tensor]], y: Tensor | None, walk: "Walk"
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Run the stream from this resolution down to the coarsest and back.

        Args:
            x: features of this resolution, ``(B, channels, H, W)``.
            told: features of the other stream: for each resolution, from this one to the coarsest, those of each block.
                Empty if this stream does not depend on another.
            y: classes, int64 ``(B,)``; None for an unconditional model.
            walk: way of computing, on whole images at once or at one row or pixel.

        Returns:
            The last features of this resolution, ``(B, channels, H, W)``, and, for each resolution, the features of
            each block.
        """
        num_blocks = len(self.descend) + len(self.ascend)
        biases: Sequence[Tensor | None] = [None] * num_blocks
        if y is not None:
            biases = self.class_bias(y)[:, :, None, None].chunk(num_blocks, dim=1)
        skips = [x]
        features: list[Tensor] = []
        deeper: list[list[Tensor]] = []

        def beside(*skip: Tensor) -> Tensor | None:
            """Collect what a block reads beside x: the other stream's matching features and the skip connection."""
            parts = ([walk.here(told[0][len(features)])] if told else []) + list(skip)
            return torch.cat(parts, dim=1) if parts else None

        for block in self.descend:
            x = block(x, beside(), biases[len(features)], walk.conv)
            features.append(x)
            skips.append(x)
        if self.coarser is None:
            skips.pop()
        else:
            x, deeper = walk.to_coarser(self, x, told[1:], y)
        for block in self.ascend:
            x = block(x, beside(skips.pop()), biases[len(features)], walk.conv)
            features.append(x)
        return x, [features, *deeper]


class Walk(ABC):
    """A way of computing a stream: for whole images at once, or for one row or pixel at a time."""

    @abstractmethod
    def conv(self, layer: ShiftedConv2d, x: Tensor) -> Tensor:
        """Return the layer's output for ``x``."""

    @abstractmethod
    def here(self, features: Tensor) -> Tensor:
        """Select the other stream's features at the positions that are computed now."""

    @abstractmethod
    def to_coarser(
        self, level: Level, x: Tensor, told: Sequence[Sequence[Tensor]], y: Tensor | None
    ) -> tuple[Tensor, list[list[Tensor]]]:
        """Run the coarser resolutions of ``level`` on ``x``.

        Args:
            level: level whose coarser levels to run.
            x: features of this level, ``(B, channels, H, W)``.
            told: features of the other stream at the coarser resolutions.
            y: classes, int64 ``(B,)``; None for an unconditional model.

        Returns:
            The features enlarged back to this level's resolution, and those of each block at the coarser resolutions.
        """


class WholeWalk(Walk):
    """A walk that computes whole images at once."""

    def conv(self, layer: ShiftedConv2d, x: Tensor) -> Tensor:
        return layer(x)

    def here(self, features: Tensor) -> Tensor:
        return features

    def to_coarser(
        self, level: Level, x: Tensor, told: Sequence[Sequence[Tensor]], y: Tensor | None
    ) -> tuple[Tensor, list[list[Tensor]]]:
        assert level.coarser is not None
        coarse, features = level.coarser(level.halve(x), told, y, self)
        return level.enlarge(coarse)[:, :, : x.shape[2], : x.shape[3]], features  # halving rounds odd sides up


class CachedWalk(Walk):
    """A walk that computes one row of the stream that looks up, or one pixel of the other stream.

    A coarser map is computed only when its next row or pixel is due; in between, its last output is reused.

    Args:
        cache: cache of the inputs of all convolutions.
    """

    def __init__(self, cache: ShiftedCache) -> None:
        self.cache = cache
        self.scale = 0
        self._enlarged: dict[Level, Tensor] = {}  # two rows, (N, channels, 2, W rounded up to even)

    def conv(self, layer: ShiftedConv2d, x: Tensor) -> Tensor:
        self.cache.write(layer, x, self.scale)
        return self.cache.read(layer, self.scale)

    def here(self, features: Tensor) -> Tensor:
        column = self.cache.column >> self.scale
        return features[:, :, :, column : column + 1]

    def to_coarser(
        self, level: Level, x: Tensor, told: Sequence[Sequence[Tensor]], y: Tensor | None
    ) -> tuple[Tensor, list[list[Tensor]]]:
        assert level.coarser is not None
        self.cache.write(level.halve, x, self.scale)
        row = self.cache.row >> self.scale
        column = self.cache.column >> self.scale if isinstance(level.halve, DownRightConv) else 0
        features: list[list[Tensor]] = []
        if row % 2 == 0 and column % 2 == 0:
            halved = self.cache.read(level.halve, self.scale)
            self.scale += 1
            coarse, features = level.coarser(halved, told, y, self)
            self.scale -= 1
            enlarged = level.enlarge(coarse)
            if isinstance(level.halve, DownConv):
                self._enlarged[level] = enlarged
            else:
                if level not in self._enlarged:
                    width = self.cache.width(level.halve)
                    self._enlarged[level] = enlarged.new_zeros(*enlarged.shape[:3], width + width % 2)
                self._enlarged[level][:, :, :, column : column + 2] = enlarged
        return self._enlarged[level][:, :, row % 2, column : column + x.shape[3]].unsqueeze(2), features


class PixelCNNpp(AutoregressiveModel):
    """PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood (arXiv:1701.05517).

    ``p(x) = prod_i p(x_i | x_<i)`` over the pixels in raster order. One stream sees the rows above; the other sees its
    own row as well, and the first stream. Both go down to maps of half and of a quarter of the size and back up, with
    skip connections (figure 2). All channels of a pixel have one joint mixture of logistics, with linear coefficients
    between the channels (equation 3); for images with one channel, any distribution can be used. A class adds a learned
    bias to every gate.

    Args:
        shape: image shape ``(C, H, W)``, with sides of any length.
        distribution: distribution of one value; for more than one channel, a mixture of discretized logistics.
        channels: channels of each stream.
        num_blocks: number of gated residual blocks on the way down, at each resolution.
        num_levels: number of resolutions, each half of the one before.
        num_classes: number of classes; None for an unconditional model.
        dropout: dropout probability in every block, in [0, 1).
        weight_norm: whether convolutions have weight normalization and are initialized from data, as in the paper
            (arXiv:1602.07868); the last bias then begins at a mixture fitted to the pixels of the data.

    Raises:
        InputError: if the shape is not an image's, a size is not positive, the distribution cannot model several
            channels jointly, or ``dropout`` is not in [0, 1).
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        distribution: PixelDistribution,
        channels: int = 32,
        num_blocks: int = 2,
        num_levels: int = 3,
        num_classes: int | None = None,
        dropout: float = 0.0,
        weight_norm: bool = False,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: PixelCNN++ models images (C, H, W)")
        if channels < 1 or num_blocks < 1 or num_levels < 1:
            raise InputError(
                f"channels={channels}, num_blocks={num_blocks}, num_levels={num_levels}: expected at least 1 of each"
            )
        C = shape[0]
        self.distribution = distribution
        self.pixel = jointly(C, distribution)
        self.first_above = DownConv(C + 1, channels, (2, 3))
        self.first_left_above = DownConv(C + 1, channels, (1, 3), gain=0.5)
        self.first_left = DownRightConv(C + 1, channels, (2, 1), gain=0.5)
        sizes = (num_blocks, num_levels - 1, num_classes, dropout)
        # The kernel has 3 columns at stride 2, so neighbouring pixels overlap in their outer columns.
        enlarge_above = partial(nn.ConvTranspose2d, channels, channels, (2, 3), 2, (0, 1), (0, 1))
        self.above = Level(channels, DownConv, (2, 3), enlarge_above, False, *sizes)
        enlarge_left = partial(nn.ConvTranspose2d, channels, channels, 2, 2)
        self.left = Level(channels, DownRightConv, (2, 2), enlarge_left, True, *sizes)
        self.last = nn.Conv2d(channels, self.pixel.num_params, 1)
        nn.init.normal_(self.last.weight, std=0.1 * channels**-0.5)
        self.weight_norm = weight_norm
        if weight_norm:
            normalize_weights(self)

    def _predict(self, z: Tensor) -> Tensor:
        """Map features to the parameters of the pixels, ``(B, ..., H, W)``."""
        with own_precision(z, self.distribution.needs_float32):
            return self.last(elu(z).to(self.last.weight.dtype))

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """With weight normalization, initialize all convolutions from images, and the last bias to their pixels."""
        if self.weight_norm:
            initialize_pixel_network(self, self.last, x, y, self.pixel.fit)

    def _read(self, x: Tensor) -> Tensor:
        """Scale values from [0, 1] and append a channel of ones, which marks padding: ``(B, C + 1, H, W)``."""
        x = (2 * x - 1).to(self.last.weight.dtype)
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images in [0, 1] to each value's parameters given the values before, ``(B, num_params, C, H, W)``."""
        y = None if self.num_classes is None else given(y)
        values = channels_last_on_cpu(self._read(x))
        above, left = F.pad(values, (0, 0, 1, -1)), F.pad(values, (1, -1))  # moved down by one, and right by one
        walk = WholeWalk()
        _, told = self.above(self.first_above(above), [], y, walk)
        z, _ = self.left(self.first_left_above(above) + self.first_left(left), told, y, walk)
        params = self._predict(z.contiguous())  # the parameters of a pixel are split along the channels
        return self.pixel.given(params, x)

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Draw pixel by pixel; the stream that looks up runs once per row, the other once per pixel.

        Coarser maps are computed only when their next row or pixel is due.
        """
        with parametrize.cached():  # normalized weights are computed once
            return self._draw(draws, y)

    def _draw(self, draws: Draws, y: Tensor | None) -> Tensor:
        C, height, width = self.shape
        num_samples = len(draws.u)
        first = [(conv, width) for conv in (self.first_above, self.first_left_above, self.first_left)]
        cache = ShiftedCache([*first, *self.above.convs(width), *self.left.convs(width)], num_samples)
        walk = CachedWalk(cache)
        x = torch.empty_like(draws.u)
        none = self.last.weight.new_zeros(num_samples, C + 1, 1, width)
        for row in range(height):
            cache.move(row, 0)
            above = self._read(x[:, :, row - 1 : row]) if row else none
            _, told = self.above(walk.conv(self.first_above, above), [], y, walk)
            from_above = walk.conv(self.first_left_above, above)
            for column in range(width):
                cache.move(row, column)
                left = self._read(x[:, :, row : row + 1, column - 1 : column]) if column else none[..., :1]
                z = walk.here(from_above) + walk.conv(self.first_left, left)
                z, _ = self.left(z, told, y, walk)
                params = self._predict(z)[..., 0, 0]  # (N, ...)
                for c in range(C):
                    of_value = self.pixel.given(params, x[:, :c, row, column])[..., c]  # (N, num_params)
                    x[:, c, row, column] = draws(of_value, c, row, column)
        return x
