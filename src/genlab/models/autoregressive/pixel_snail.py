"""PixelSNAIL: images drawn pixel by pixel by causal convolutions and attention over all pixels before."""

from collections.abc import Sequence
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
from genlab.layers.gated_resnet import Apply, GatedResnet
from genlab.layers.precision import own_precision
from genlab.layers.shifted_conv import DownConv, DownRightConv, ShiftedCache, ShiftedConv2d
from genlab.layers.weight_norm import initialize_pixel_network, normalize_weights
from genlab.models.adversarial import given
from genlab.models.base import AutoregressiveModel


def _whole(conv: ShiftedConv2d, x: Tensor) -> Tensor:
    return conv(x)


class SnailBlock(nn.Module):
    """The block of figure 2 of the paper: residual blocks of convolutions, attention, and a block that merges both.

    The features and the query of a pixel depend only on the pixels before it. Its key and value depend on its own
    values too; only the pixels after it attend to them.

    Args:
        channels: channels of the features.
        num_values: channels of the pixels' values, from which keys and values are computed; the pixel's coordinates are
            2 more.
        num_convs: number of residual blocks of convolutions.
        key_size: dimension of the keys and queries of attention, which has one head.
        value_size: dimension of the values of attention.
        dropout: dropout probability of the residual blocks.
    """

    def __init__(
        self, channels: int, num_values: int, num_convs: int, key_size: int, value_size: int, dropout: float
    ) -> None:
        super().__init__()
        self.sizes = [key_size, value_size]
        about, alone = (partial(DownRightConv, kernel_size=size) for size in ((2, 2), (1, 1)))
        self.convs = nn.ModuleList(GatedResnet(channels, about, 0, dropout) for _ in range(num_convs))
        self.content = GatedResnet(channels + num_values + 2, alone, 0, dropout)
        self.keys_and_values = nn.Conv2d(channels + num_values + 2, key_size + value_size, 1)
        self.question = GatedResnet(channels + 2, alone, 0, dropout)
        self.query = nn.Conv2d(channels + 2, key_size, 1)
        self.mix = GatedResnet(channels, alone, value_size, dropout)

    def look_about(self, z: Tensor, class_biases: Sequence[Tensor | None], apply: Apply) -> Tensor:
        """Apply the convolutions to features ``(B, channels, H, W)``, of whole images or one pixel; keep the shape."""
        for conv, class_bias in zip(self.convs, class_biases, strict=True):
            z = conv(z, None, class_bias, apply)
        return z

    def tell(self, z: Tensor, values: Tensor, places: Tensor) -> Tensor:
        """Compute the keys and values of T pixels, ``(B, T, key_size + value_size)``, for the pixels after them."""
        content = self.content(torch.cat([z, values, places], dim=1), None, None, _whole)
        return self.keys_and_values(content).flatten(2).transpose(1, 2)

    def ask(self, z: Tensor, places: Tensor, told: Tensor, causal: bool) -> Tensor:
        """Attend to other pixels and merge the result into the features, ``(B, channels, H, W)``.

        Args:
            z: features of T pixels, ``(B, channels, H, W)``.
            places: coordinates of these pixels, ``(B, 2, H, W)``.
            told: keys and values of S pixels, ``(B, S, key_size + value_size)``.
            causal: whether pixel ``t`` attends only to the first ``t + 1`` of the S pixels; otherwise each attends to
                all.
        """
        query = self.query(self.question(torch.cat([z, places], dim=1), None, None, _whole))
        query = query.flatten(2).transpose(1, 2).unsqueeze(1)  # (B, 1, T, key_size)
        keys, values = told.unsqueeze(1).split(self.sizes, dim=3)
        heard = F.scaled_dot_product_attention(query, keys, values, is_causal=causal)  # (B, 1, T, value_size)
        heard = heard.squeeze(1).transpose(1, 2).unflatten(2, z.shape[2:])
        return self.mix(z, heard, None, _whole)

    def forward(self, z: Tensor, values: Tensor, places: Tensor, class_biases: Sequence[Tensor | None]) -> Tensor:
        """Apply the block to features of whole images, ``(B, channels, H, W)``; the shape is kept."""
        z = self.look_about(z, class_biases, _whole)
        # Shifted by one pixel, as a pixel must not attend to itself. The first place holds zeros, for the first pixel;
        # all others can attend to them as well.
        told = F.pad(self.tell(z, values, places), (0, 0, 1, -1))
        return self.ask(z, places, told, causal=True)


class PixelSNAIL(AutoregressiveModel):
    """PixelSNAIL: An Improved Autoregressive Generative Model (arXiv:1712.09763).

    ``p(x) = prod_i p(x_i | x_<i)`` over the pixels in raster order. Convolutions look up and to the left, and attention
    reaches all pixels before. As in PixelCNN++ (arXiv:1701.05517), all channels of a pixel have one joint mixture of
    logistics, with linear coefficients between the channels; for images with one channel, any distribution can be used.
    A class adds a learned bias to the gates of every residual block of convolutions.

    Args:
        shape: image shape ``(C, H, W)``; time and memory of attention grow with the square of ``H W``.
        distribution: distribution of one value; for more than one channel, a mixture of discretized logistics.
        channels: channels of the features.
        num_blocks: number of blocks, each with convolutions and attention.
        num_convs: number of residual blocks of convolutions in each block.
        key_size: dimension of the keys and queries of attention.
        value_size: dimension of the values of attention.
        num_classes: number of classes; None for an unconditional model.
        dropout: dropout probability in every residual block, in [0, 1).
        weight_norm: whether convolutions have weight normalization and are initialized from data, as in the authors'
            code (arXiv:1602.07868); the last bias then begins at a mixture fitted to the pixels of the data.
        marked_keys: whether keys and values are computed from a channel of ones too, which the authors' are not.

    Raises:
        InputError: if the shape is not an image's, a size is not positive, the distribution cannot model several
            channels jointly, or ``dropout`` is not in [0, 1).
    """

    places: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        distribution: PixelDistribution,
        channels: int = 32,
        num_blocks: int = 2,
        num_convs: int = 2,
        key_size: int = 16,
        value_size: int = 32,
        num_classes: int | None = None,
        dropout: float = 0.0,
        weight_norm: bool = False,
        marked_keys: bool = True,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: PixelSNAIL models images (C, H, W)")
        if min(channels, num_blocks, num_convs, key_size, value_size) < 1:
            raise InputError(
                f"channels={channels}, num_blocks={num_blocks}, num_convs={num_convs}, key_size={key_size}, "
                f"value_size={value_size}: expected at least 1 of each"
            )
        C, H, W = shape
        self.distribution = distribution
        self.pixel = jointly(C, distribution)
        self.num_convs, self.told_size = num_convs, key_size + value_size
        self.first_above = DownConv(C + 1, channels, (1, 3), gain=0.5)
        self.first_left = DownRightConv(C + 1, channels, (2, 1), gain=0.5)
        self.blocks = nn.ModuleList(
            SnailBlock(channels, C + marked_keys, num_convs, key_size, value_size, dropout) for _ in range(num_blocks)
        )
        self.last = nn.Conv2d(channels, self.pixel.num_params, 1)
        nn.init.normal_(self.last.weight, std=0.1 * channels**-0.5)
        rows, columns = (torch.arange(size) / size - 0.5 for size in (H, W))
        places = torch.stack(torch.meshgrid(rows, columns, indexing="ij"))[None]  # (1, 2, H, W)
        self.register_buffer("places", places, persistent=False)
        if num_classes is not None:
            self.class_bias = nn.Embedding(num_classes, num_blocks * num_convs * 2 * channels)
            nn.init.zeros_(self.class_bias.weight)
        self.weight_norm, self.num_told = weight_norm, C + marked_keys
        if weight_norm:
            normalize_weights(self)

    def _class_biases(self, y: Tensor | None) -> list[Sequence[Tensor | None]]:
        """Return the gates' bias per block and convolution, ``(B, 2 channels, 1, 1)``, or None without classes."""
        num_convs = self.num_convs
        if self.num_classes is None:
            return [[None] * num_convs] * len(self.blocks)
        of_blocks = self.class_bias(given(y))[:, :, None, None].chunk(len(self.blocks), dim=1)
        return [biases.chunk(num_convs, dim=1) for biases in of_blocks]

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """With weight normalization, initialize all convolutions from images, and the last bias to their pixels."""
        if self.weight_norm:
            initialize_pixel_network(self, self.last, x, y, self.pixel.fit)

    def _read(self, x: Tensor) -> Tensor:
        """Scale values from [0, 1] and append a channel of ones, which marks padding: ``(B, C + 1, H, W)``."""
        x = (2 * x - 1).to(self.last.weight.dtype)
        return torch.cat([x, torch.ones_like(x[:, :1])], dim=1)

    def _predict(self, z: Tensor) -> Tensor:
        """Map features to the parameters of the pixels, ``(B, ..., H, W)``."""
        with own_precision(z, self.distribution.needs_float32):
            return self.last(elu(z).to(self.last.weight.dtype))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images in [0, 1] to each value's parameters given the values before, ``(B, num_params, C, H, W)``."""
        values = self._read(x)
        above, left = F.pad(values, (0, 0, 1, -1)), F.pad(values, (1, -1))  # moved down by one, and right by one
        z = self.first_above(above) + self.first_left(left)
        places = self.places.expand(len(x), -1, -1, -1)
        for block, class_biases in zip(self.blocks, self._class_biases(y), strict=True):
            z = block(z, values[:, : self.num_told], places, class_biases)
        params = self._predict(z)
        return self.pixel.given(params, x)

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Draw pixel by pixel; each costs one column of features and one query, as the earlier ones are kept."""
        with parametrize.cached():  # normalized weights are computed once
            return self._draw(draws, y)

    def _draw(self, draws: Draws, y: Tensor | None) -> Tensor:
        C, height, width = self.shape
        num_samples = len(draws.u)
        class_biases = self._class_biases(y)
        cache = ShiftedCache(((m, width) for m in self.modules() if isinstance(m, ShiftedConv2d)), num_samples)

        def apply(conv: ShiftedConv2d, x: Tensor) -> Tensor:
            cache.write(conv, x)
            return cache.read(conv)

        weight = self.last.weight
        told = [weight.new_zeros(num_samples, height * width, self.told_size) for _ in self.blocks]
        x = torch.empty_like(draws.u)
        none = weight.new_zeros(num_samples, C + 1, 1, width)
        before: list[tuple[Tensor, Tensor, Tensor]] = []  # for each block, the last pixel's input of `tell`
        for row in range(height):
            cache.move(row, 0)
            from_above = apply(self.first_above, self._read(x[:, :, row - 1 : row]) if row else none)
            for column in range(width):
                cache.move(row, column)
                t = row * width + column
                left = self._read(x[:, :, row : row + 1, column - 1 : column]) if column else none[..., :1]
                z = from_above[..., column : column + 1] + apply(self.first_left, left)
                place = self.places[:, :, row : row + 1, column : column + 1].expand(num_samples, -1, -1, -1)
                looked = []
                for k, block in enumerate(self.blocks):
                    assert isinstance(block, SnailBlock)
                    if t:
                        told[k][:, t] = block.tell(*before[k]).squeeze(1)
                    z = block.look_about(z, class_biases[k], apply)
                    looked.append(z)
                    z = block.ask(z, place, told[k][:, : t + 1].to(z.dtype), causal=False)
                params = self._predict(z)[..., 0, 0]  # (N, ...)
                for c in range(C):
                    of_value = self.pixel.given(params, x[:, :c, row, column])[..., c]  # (N, num_params)
                    x[:, c, row, column] = draws(of_value, c, row, column)
                value = self._read(x[:, :, row : row + 1, column : column + 1])[:, : self.num_told]
                before = [(z, value, place) for z in looked]
        return x
