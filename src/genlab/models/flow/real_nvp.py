"""RealNVP: a flow of images through affine couplings at several scales."""

import math
from collections.abc import Iterable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from genlab.errors import InputError
from genlab.layers.coupling import AffineCoupling, Couplings, channel_mask, checkerboard_mask, squeeze, unsqueeze
from genlab.layers.fitting import fitted
from genlab.layers.running_norm import RunningNorm
from genlab.models.flow.image_flow import ImageFlow, eighth_of_a_bin

# Number of training images that batch normalizations take their first averages from.
INITIAL_IMAGES = 256


def conv(in_channels: int, out_channels: int, size: int) -> nn.Module:
    """Build a convolution with weight normalization that keeps the sides."""
    return weight_norm(nn.Conv2d(in_channels, out_channels, size, padding=size // 2))


class FeatureNorm(RunningNorm):
    """Batch normalization of a network's features with a learned bias."""

    def __init__(self, channels: int, momentum: float) -> None:
        super().__init__(channels, momentum)
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))

    def forward(self, h: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(h)[0] + self.bias


def feature_norm(channels: int, momentum: float | None) -> nn.Module:
    """Build a batch normalization of features, or with a momentum of None what leaves them as they are."""
    return nn.Identity() if momentum is None else FeatureNorm(channels, momentum)


class ResidualBlock(nn.Module):
    """A residual block of a 3x3 convolution and a second one.

    With a second convolution of 1x1 it is nearly as good per training step as with 3x3, which the paper has, at 5/9 of
    the arithmetic.
    """

    def __init__(self, width: int, second_kernel: int, momentum: float | None) -> None:
        super().__init__()
        self.norm1 = feature_norm(width, momentum)
        self.conv1 = conv(width, width, 3)
        self.norm2 = feature_norm(width, momentum)
        self.conv2 = conv(width, width, second_kernel)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv2(F.relu(self.norm2(self.conv1(F.relu(self.norm1(h))))))


class CouplingNet(nn.Module):
    """The residual network of one coupling, ``(B, C, H, W)`` to ``(B, 2C, H, W)``; a class adds a bias to its features.

    Inside, each patch of ``patch x patch`` pixels is one position. With 2x2 patches a network costs a quarter of one on
    single pixels, and under a checkerboard every patch has pixels to see and pixels to transform.
    """

    def __init__(
        self,
        channels: int,
        width: int,
        num_blocks: int,
        patch: int,
        num_classes: int | None,
        second_kernel: int,
        skips: bool,
        momentum: float | None,
    ) -> None:
        super().__init__()
        self.patch = patch
        self.first = conv(channels * patch**2, width, 3)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, width)
        self.blocks = nn.Sequential(*[ResidualBlock(width, second_kernel, momentum) for _ in range(num_blocks)])
        # From the input of the first block and the output of each.
        self.skips = nn.ModuleList(conv(width, width, 1) for _ in range(num_blocks + 1)) if skips else None
        self.norm = feature_norm(width, momentum)
        self.last = nn.Conv2d(width, 2 * channels * patch**2, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # s = t = 0: the flow starts as the identity
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, h: Tensor, y: Tensor | None) -> Tensor:
        H, W = h.shape[-2:]
        h = F.pad(h.to(self.last.weight.dtype), (0, -W % self.patch, 0, -H % self.patch))
        h = self.first(F.pixel_unshuffle(h, self.patch))  # (B, width, H / patch, W / patch)
        if self.embedding is not None:
            h = h + self.embedding(y)[:, :, None, None]
        if self.skips is None:
            h = self.blocks(h)
        else:
            skipped = self.skips[0](h)
            for block, skip in zip(self.blocks, self.skips[1:], strict=True):
                h = block(h)
                skipped = skipped + skip(h)
            h = skipped
        h = self.last(F.relu(self.norm(h)))
        return F.pixel_shuffle(h, self.patch)[..., :H, :W]


class Scale(nn.Module):
    """One scale: checkerboard couplings, a squeeze, channel couplings, and a split.

    At the split half of the channels become latents, and the other half go to the next scale.
    """

    def __init__(self, checkerboard: Couplings, channelwise: Couplings) -> None:
        super().__init__()
        self.checkerboard = checkerboard
        self.channelwise = channelwise

    def forward(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Map ``(B, C, H, W)`` to the features that go on, the latents, and the log-determinant in nats, ``(B,)``.

        Features and latents are ``(B, 2C, H/2, W/2)`` each.
        """
        h, log_det = self.checkerboard(h, y)
        h, d = self.channelwise(squeeze(h), y)
        h, z = h.chunk(2, dim=1)
        return h, z, log_det + d

    def inverse(self, h: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
        h = self.channelwise.inverse(torch.cat([h, z], dim=1), y)
        return self.checkerboard.inverse(unsqueeze(h), y)


class RealNVP(ImageFlow):
    """Density estimation using Real NVP (arXiv:1605.08803).

    Affine couplings map logits of dequantized images to ``z``, whose prior is N(0, I).

    All scales but the last contain a squeeze, which needs both sides to be even and at least 4. The last scale has
    checkerboard couplings only, so a shape with an odd side has that scale alone.

    Args:
        shape: image shape ``(C, H, W)``.
        num_classes: number of classes, which the coupling networks see; None for an unconditional model.
        levels: number of grey levels of the data.
        alpha: margin that keeps the logit's argument away from 0 and 1, above 0 and below 0.5; None for an eighth of a
            bin, ``1 / (8 levels)``.
        num_scales: maximum number of scales; there are fewer if the shape cannot be squeezed as often.
        num_couplings: number of checkerboard couplings, and of channel couplings, at each scale; the last scale has one
            checkerboard coupling more and no channel couplings.
        width: channels of the coupling networks.
        num_blocks: number of residual blocks in each coupling network.
        patch: side of the patches of pixels that are one position in the networks of checkerboard couplings; 1 in the
            paper, and 2 for networks at half of the resolution, with a quarter of the arithmetic.
        second_kernel: side of the second convolution of a residual block, 1 or 3; 3 in the paper.
        skips: whether the output of a network is computed from the sum of all its blocks, as in the paper, not from
            the last one alone.
        widen: whether the width doubles with each squeeze, as in the authors' code.
        batch_norm: momentum, in [0, 1), of batch normalizations in the networks and after each coupling, by running
            averages; None for none. With them, the likelihood of an example in training depends on its batch; in
            evaluation it does not.

    Raises:
        InputError: if the shape is not an image's or is a single value, or an option is out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int | None = None,
        levels: int = 256,
        alpha: float | None = None,
        num_scales: int = 3,
        num_couplings: int = 3,
        width: int = 32,
        num_blocks: int = 1,
        patch: int = 2,
        second_kernel: int = 1,
        skips: bool = False,
        widen: bool = False,
        batch_norm: float | None = None,
    ) -> None:
        super().__init__(shape, num_classes, levels, eighth_of_a_bin(levels) if alpha is None else alpha)
        if min(num_scales, num_couplings, width) < 1 or num_blocks < 0:
            raise InputError(
                f"num_scales={num_scales}, num_couplings={num_couplings}, width={width}, num_blocks={num_blocks}: "
                "expected at least 1 of each, and 0 or more blocks"
            )
        if patch not in (1, 2) or second_kernel not in (1, 3):
            raise InputError(f"patch={patch}, second_kernel={second_kernel}: expected 1 or 2, and 1 or 3")
        if batch_norm is not None and not 0 <= batch_norm < 1:
            raise InputError(f"batch_norm={batch_norm}: a momentum of at least 0 and below 1, or null")

        def couplings(channels: int, masks: Iterable[Tensor], width: int, patch: int) -> Couplings:
            parts: list[AffineCoupling | RunningNorm] = []
            for mask in masks:
                net = CouplingNet(
                    channels, width, num_blocks, patch, num_classes, second_kernel, skips, momentum=batch_norm
                )
                parts.append(AffineCoupling(net, mask, channels))
                if batch_norm is not None:
                    parts.append(RunningNorm(channels, batch_norm, mask))
            return Couplings(parts)

        C, H, W = shape
        wider = 2 if widen else 1
        self.scales = nn.ModuleList()
        while len(self.scales) < num_scales - 1 and H % 2 == W % 2 == 0 and min(H, W) >= 4:
            masks = [checkerboard_mask(H, W, i % 2) for i in range(num_couplings)]
            checkerboard = couplings(C, masks, width, patch)
            C, H, W, width = 4 * C, H // 2, W // 2, wider * width
            channelwise = couplings(C, [channel_mask(C, i % 2) for i in range(num_couplings)], width, patch=1)
            self.scales.append(Scale(checkerboard, channelwise))
            C = C // 2
        # A single pixel has no checkerboard with two colours, so its couplings split the channels instead.
        masks = [
            channel_mask(C, i % 2) if H * W == 1 else checkerboard_mask(H, W, i % 2) for i in range(num_couplings + 1)
        ]
        self.last = couplings(C, masks, width, patch)
        self.last_shape = (C, H, W)

    def transform(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map logits ``(B, C, H, W)`` to latents ``z``, ``(B, D)``, and ``log|det dz/dh|`` in nats, ``(B,)``.

        The latents of the finest scale come first.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        self._check(y)
        latents, log_det = [], h.new_zeros(len(h))
        for scale in self.scales:
            h, z, d = scale(h, y)
            latents.append(z.flatten(1))
            log_det = log_det + d
        h, d = self.last(h, y)
        return torch.cat([*latents, h.flatten(1)], dim=1), log_det + d

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map latents ``z`` back to the logits ``(B, C, H, W)``: the inverse of ``transform``."""
        self._check(y)
        sizes = [self.num_dims // 2**i for i in range(1, len(self.scales) + 1)]
        *latents, last = z.split([*sizes, math.prod(self.last_shape)], dim=1)
        h = self.last.inverse(last.unflatten(1, self.last_shape), y)
        for scale, latent in zip(reversed(cast(list[Scale], list(self.scales))), reversed(latents), strict=True):
            h = scale.inverse(h, latent.view_as(h), y)
        return h

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Give the batch normalizations, if there are any, their first averages, one after the other."""
        norms = [module for module in self.modules() if isinstance(module, RunningNorm)]
        if not norms:
            return
        y = None if y is None else y[:INITIAL_IMAGES]
        point, _ = self._draw(x[:INITIAL_IMAGES])
        with fitted(norms):
            self.transform(self._to_reals(point)[0], y)
