"""RealNVP: images to Gaussian noise and back, through affine couplings at several scales."""

import math
from collections.abc import Iterable
from typing import ClassVar, Literal, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from genlab.distributions.dequantization import dequantize, from_logit, quantize, to_logit
from genlab.distributions.noise import Generators, normal, uniform
from genlab.errors import InputError
from genlab.layers.coupling import AffineCoupling, Couplings, channel_mask, checkerboard_mask, squeeze, unsqueeze
from genlab.models.base import LikelihoodModel


def conv(in_channels: int, out_channels: int, size: int) -> nn.Module:
    """Weight-normalised. Batch normalization, which the paper adds, would tie an example's likelihood to its batch."""
    return weight_norm(nn.Conv2d(in_channels, out_channels, size, padding=size // 2))


class ResidualBlock(nn.Module):
    """A 3x3 convolution mixes places, a 1x1 features: nearly as good as two 3x3 a step, at 5/9 of the arithmetic."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = conv(width, width, 3)
        self.conv2 = conv(width, width, 1)

    def forward(self, h: Tensor) -> Tensor:
        return h + self.conv2(F.relu(self.conv1(F.relu(h))))


class CouplingNet(nn.Module):
    """The residual network of one coupling, ``(B, C, H, W)`` to ``(B, 2C, H, W)``; a class adds a bias to its features.

    It sees and gives each ``patch x patch`` pixels as one place. A checkerboard leaves a net half of the pixels to see
    and half to transform; as patches of 2x2 they cost a quarter of what they would cost one by one.
    """

    def __init__(self, channels: int, width: int, num_blocks: int, patch: int, num_classes: int | None) -> None:
        super().__init__()
        self.patch = patch
        self.first = conv(channels * patch**2, width, 3)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, width)
        self.blocks = nn.Sequential(*[ResidualBlock(width) for _ in range(num_blocks)])
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
        h = self.last(F.relu(self.blocks(h)))
        return F.pixel_shuffle(h, self.patch)[..., :H, :W]


class Scale(nn.Module):
    """Checkerboard couplings, squeeze, channel couplings; then half of the channels goes on and half is done."""

    def __init__(self, checkerboard: Couplings, channelwise: Couplings) -> None:
        super().__init__()
        self.checkerboard = checkerboard
        self.channelwise = channelwise

    def forward(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, C, H, W)`` to what goes on and what is done, ``(B, 2C, H/2, W/2)`` each, and the log-determinant."""
        h, log_det = self.checkerboard(h, y)
        h, d = self.channelwise(squeeze(h), y)
        h, z = h.chunk(2, dim=1)
        return h, z, log_det + d

    def inverse(self, h: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
        h = self.channelwise.inverse(torch.cat([h, z], dim=1), y)
        return self.checkerboard.inverse(unsqueeze(h), y)


class RealNVP(LikelihoodModel):
    """Density estimation using Real NVP (arXiv:1605.08803).

    Grey levels are dequantized by uniform noise and mapped to ``h = logit(alpha + (1 - 2 alpha) x)``; affine couplings
    take ``h`` to standard normal ``z``. ``log_prob`` is one draw of a lower bound: the model's probability of an image
    is the mean over the noise of the density in the image's bin, and the mean of the logarithm lies below the logarithm
    of the mean (A note on the evaluation of generative models, arXiv:1511.01844). The volume of the bin and the slope
    of the logit are counted, so bits/dim are those of the discrete data.

    A scale is squeezed while both of its sides are even and at least 4; a shape with an odd side is left to the
    checkerboard couplings.

    Args:
        shape: ``(C, H, W)``.
        num_classes: of a class-conditional model.
        levels: grey levels of the data.
        alpha: how far the logit keeps off 0 and 1; ``None`` is an eighth of a bin, ``1 / (8 levels)``. The paper's 0.05
            makes the bin of black a sliver that the flow must first find: on MNIST it was 0.9 bits/dim behind after
            300 steps. Towards 0 the noise in that bin turns from uniform to exponential, which a Gaussian fits worse:
            by 0.34 bits for each black pixel at 1e-6, by 0.1 at an eighth of a bin, which learns as quickly.
        num_scales: at most; fewer where the shape cannot be squeezed that often.
        num_couplings: of each kind at each scale; the last scale has one more, of the checkerboard kind.
        width: features of the coupling networks.
        num_blocks: residual blocks of each coupling network.

    Raises:
        InputError: the shape is not an image's or is a single value, or an option is out of its range.
    """

    likelihood: ClassVar[Literal["exact", "lower_bound"]] = "lower_bound"
    sampler: ClassVar[str] = "inverse flow, quantized"

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
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: RealNVP models images (C, H, W)")
        if math.prod(shape) == 1:
            raise InputError(f"shape {tuple(shape)}: a coupling needs at least two values, one to transform the other")
        if levels < 2:
            raise InputError(f"levels={levels}: a pixel takes at least 2 values")
        if alpha is not None and not 0 < alpha < 0.5:
            raise InputError(f"alpha={alpha}: expected above 0 and below 0.5, or null for 1 / (8 levels)")
        if min(num_scales, num_couplings, width) < 1 or num_blocks < 0:
            raise InputError(
                f"num_scales={num_scales}, num_couplings={num_couplings}, width={width}, num_blocks={num_blocks}: "
                "expected at least 1 of each, and 0 or more blocks"
            )
        self.levels = levels
        self.alpha = 1 / (8 * levels) if alpha is None else alpha

        def couplings(channels: int, masks: Iterable[Tensor], patch: int) -> Couplings:
            return Couplings(
                AffineCoupling(CouplingNet(channels, width, num_blocks, patch, num_classes), mask, channels)
                for mask in masks
            )

        C, H, W = shape
        self.scales = nn.ModuleList()
        while len(self.scales) < num_scales - 1 and H % 2 == W % 2 == 0 and min(H, W) >= 4:
            checkerboard = couplings(C, (checkerboard_mask(H, W, i % 2) for i in range(num_couplings)), patch=2)
            C, H, W = 4 * C, H // 2, W // 2
            channelwise = couplings(C, (channel_mask(C, i % 2) for i in range(num_couplings)), patch=1)
            self.scales.append(Scale(checkerboard, channelwise))
            C = C // 2
        # A checkerboard of one pixel has nothing on its other colour, so there the channels take its place.
        masks = (
            channel_mask(C, i % 2) if H * W == 1 else checkerboard_mask(H, W, i % 2) for i in range(num_couplings + 1)
        )
        self.last = couplings(C, masks, patch=2)
        self.last_shape = (C, H, W)

    def _check(self, y: Tensor | None) -> None:
        if self.num_classes is not None and y is None:
            raise InputError(f"this RealNVP is conditional on {self.num_classes} classes: pass y")

    def transform(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits ``(B, C, H, W)`` to ``z`` of all scales, ``(B, D)`` with the finest first, and ``log|det dz/dh|`` in
        nats, ``(B,)``.

        Raises:
            InputError: the model is conditional and ``y`` is None.
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
        """The logits ``(B, C, H, W)`` that ``transform`` takes to ``z``."""
        self._check(y)
        sizes = [self.num_dims // 2**i for i in range(1, len(self.scales) + 1)]
        *latents, last = z.split([*sizes, math.prod(self.last_shape)], dim=1)
        h = self.last.inverse(last.unflatten(1, self.last_shape), y)
        for scale, latent in zip(reversed(cast(list[Scale], list(self.scales))), reversed(latents), strict=True):
            h = scale.inverse(h, latent.view_as(h), y)
        return h

    def log_prob(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """One draw of the lower bound on the log-likelihood of grey levels, in nats, ``(B,)``.

        Raises:
            InputError: the model is conditional and ``y`` is None.
        """
        point, log_bin = dequantize(x, uniform(x.shape, None, x.device), self.levels)
        h, log_slope = to_logit(point, self.alpha)
        z, log_det = self.transform(h, y)
        log_prior = -0.5 * (z.square() + math.log(2 * math.pi)).sum(1)
        return log_prior + log_det + log_slope + log_bin

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """The latents ``(B, D)`` of images, from the middle of their bins."""
        point, _ = dequantize(x, 0.5, self.levels)
        return self.transform(to_logit(point, self.alpha)[0], y)[0]

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Latents ``(B, D)`` to images in [0, 1], between the grey levels (see ``quantize``)."""
        return from_logit(self.inverse(z, y), self.alpha)

    @torch.no_grad()
    def sample(
        self, num_samples: int, y: Tensor | None = None, *, generator: Generators = None, temperature: float = 1.0
    ) -> Tensor:
        """Grey levels; ``temperature`` is the standard deviation of ``z``."""
        y = self.classes(num_samples, y, generator)
        z = temperature * normal((num_samples, self.num_dims), generator, self.device)
        return quantize(self.decode(z, y), self.levels)
