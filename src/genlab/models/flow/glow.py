"""Glow: steps of normalization, channel mixing and coupling, at several scales with learned priors."""

import math
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from genlab.errors import InputError
from genlab.layers.coupling import checkerboard_mask, squeeze, unsqueeze
from genlab.layers.transforms import Affine, Transform
from genlab.models.flow.image_flow import ImageFlow, eighth_of_a_bin

# Training images that the normalizations start from: a batch, as in the paper.
INITIAL_IMAGES = 256


class ActNorm(nn.Module):
    """``(h + bias) exp(log_scale)``, of each channel: section 3.1 of the paper."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))

    def fit(self, h: Tensor) -> None:
        """Start with zero mean and unit variance of ``h``, ``(B, C, H, W)``."""
        std, mean = torch.std_mean(h, (0, 2, 3), correction=0, keepdim=True)
        self.bias.data.copy_(-mean[0])
        self.log_scale.data.copy_(-std[0].clamp_min(1e-3).log())  # a single value has no variance

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """The normalised ``h`` and the log-determinant, which is that of every example."""
        return (h + self.bias) * self.log_scale.exp(), self.log_scale.sum() * math.prod(h.shape[2:])

    def inverse(self, h: Tensor) -> Tensor:
        return h * torch.exp(-self.log_scale) - self.bias


class InvertibleConvolution(nn.Module):
    """A 1x1 convolution of C channels to C, ``W = P L (U + diag(s))``: section 3.2 of the paper.

    It starts as a random rotation, whose permutation ``P`` and signs of ``s`` stay. ``L`` is unit lower triangular and
    ``U`` strictly upper triangular, in one matrix of parameters whose diagonal is not used.
    """

    permutation: Tensor
    sign: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        rotation, _ = torch.linalg.qr(torch.randn(channels, channels))
        permutation, lower, upper = torch.linalg.lu(rotation)
        s = upper.diagonal()
        self.register_buffer("permutation", permutation)
        self.register_buffer("sign", s.sign())
        self.log_s = nn.Parameter(s.abs().log())
        self.lu = nn.Parameter(lower.tril(-1) + upper.triu(1))

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        lu, s = self.lu.to(dtype), self.sign.to(dtype) * self.log_s.to(dtype).exp()
        one = torch.eye(len(s), dtype=dtype, device=s.device)
        return self.permutation.to(dtype), lu.tril(-1) + one, lu.triu(1) + s.diag()

    # Rounded to bfloat16, W would no longer be what the log-determinant and the inverse are of.

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """``W h`` at every place, and the log-determinant, which is that of every example."""
        with torch.autocast(h.device.type, enabled=False):
            permutation, lower, upper = self._factors(h.dtype)
            mixed = (permutation @ lower @ upper) @ h.flatten(2)
        return mixed.view_as(h), self.log_s.to(h.dtype).sum() * math.prod(h.shape[2:])

    def inverse(self, h: Tensor) -> Tensor:
        B, C, H, W = h.shape
        with torch.autocast(h.device.type, enabled=False):
            permutation, lower, upper = self._factors(h.dtype)
            v = permutation.T @ h.transpose(0, 1).reshape(C, -1)  # (C, BHW)
            v = torch.linalg.solve_triangular(lower, v, upper=False, unitriangular=True)
            v = torch.linalg.solve_triangular(upper, v, upper=True)
        return v.view(C, B, H, W).transpose(0, 1).contiguous()


class CouplingNet(nn.Module):
    """3x3, 1x1 and 3x3 convolutions, ``(B, C, H, W)`` to ``(B, outputs, H, W)``; a class adds a bias to the features.

    The last is 0 to begin with, and with it the parameters of the coupling.
    """

    def __init__(self, channels: int, outputs: int, width: int, num_classes: int | None) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, width, 3, padding=1)
        self.embedding = None if num_classes is None else nn.Embedding(num_classes, width)
        self.middle = nn.Conv2d(width, width, 1)
        self.last = zero_conv(width, outputs)

    def forward(self, h: Tensor, y: Tensor | None) -> Tensor:
        h = self.first(h.to(self.last.weight.dtype))
        if self.embedding is not None:
            h = h + self.embedding(y)[:, :, None, None].to(h.dtype)
        return self.last(F.relu(self.middle(F.relu(h))))


def zero_conv(in_channels: int, out_channels: int) -> nn.Conv2d:
    conv = nn.Conv2d(in_channels, out_channels, 3, padding=1)
    nn.init.zeros_(conv.weight)
    assert conv.bias is not None
    nn.init.zeros_(conv.bias)
    return conv


class HalfCoupling(nn.Module):
    """The first half of the channels says how ``transform`` changes the second."""

    def __init__(self, channels: int, transform: Transform, width: int, num_classes: int | None) -> None:
        super().__init__()
        self.sizes = [channels // 2, channels - channels // 2]
        self.net = CouplingNet(self.sizes[0], transform.num_params * self.sizes[1], width, num_classes)
        self.transform = transform

    def _params(self, first: Tensor, y: Tensor | None) -> Tensor:
        return self.net(first, y).unflatten(1, (self.transform.num_params, self.sizes[1]))

    def forward(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        first, second = h.split(self.sizes, 1)
        second, log_slope = self.transform.forward(second, self._params(first, y))
        return torch.cat([first, second], 1), log_slope.flatten(1).sum(1)

    def inverse(self, h: Tensor, y: Tensor | None) -> Tensor:
        first, second = h.split(self.sizes, 1)
        return torch.cat([first, self.transform.inverse(second, self._params(first, y))], 1)


class CheckerboardCoupling(nn.Module):
    """For a single channel, which has no halves: one colour of the board says how ``transform`` changes the other."""

    mask: Tensor

    def __init__(
        self, size: tuple[int, int], parity: int, transform: Transform, width: int, num_classes: int | None
    ) -> None:
        super().__init__()
        self.net = CouplingNet(1, transform.num_params, width, num_classes)
        self.transform = transform
        self.register_buffer("mask", checkerboard_mask(*size, parity).bool(), persistent=False)

    def _params(self, h: Tensor, y: Tensor | None) -> Tensor:
        return self.net(h * self.mask, y).unflatten(1, (self.transform.num_params, 1))

    def forward(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        changed, log_slope = self.transform.forward(h, self._params(h, y))
        return torch.where(self.mask, h, changed), log_slope.masked_fill(self.mask, 0).flatten(1).sum(1)

    def inverse(self, h: Tensor, y: Tensor | None) -> Tensor:
        return torch.where(self.mask, h, self.transform.inverse(h, self._params(h, y)))


class Step(nn.Module):
    """Normalization, mixing of the channels where there are several, and a coupling: figure 2a of the paper.

    Args:
        shape: ``(C, H, W)`` of the features.
        parity: of the checkerboard, where there is one channel.
        transform: of the coupling.
        width: features of the coupling network.
        num_classes: of a class-conditional model.
    """

    def __init__(
        self, shape: tuple[int, int, int], parity: int, transform: Transform, width: int, num_classes: int | None
    ) -> None:
        super().__init__()
        C, H, W = shape
        self.norm = ActNorm(C)
        self.mix = InvertibleConvolution(C) if C > 1 else None
        self.coupling: HalfCoupling | CheckerboardCoupling
        if C > 1:
            self.coupling = HalfCoupling(C, transform, width, num_classes)
        else:
            self.coupling = CheckerboardCoupling((H, W), parity, transform, width, num_classes)

    def forward(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        h, log_det = self.norm(h)
        if self.mix is not None:
            h, d = self.mix(h)
            log_det = log_det + d
        h, d = self.coupling(h, y)
        return h, log_det + d

    def inverse(self, h: Tensor, y: Tensor | None) -> Tensor:
        h = self.coupling.inverse(h, y)
        if self.mix is not None:
            h = self.mix.inverse(h)
        return self.norm.inverse(h)


class Split(nn.Module):
    """Half of the channels is done, as latents in standard deviations of a Gaussian that the other half gives."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.prior = zero_conv(channels // 2, channels)

    def _prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(h.device.type, enabled=False):
            mean, log_std = self.prior(h.to(self.prior.weight.dtype)).to(h.dtype).chunk(2, 1)
        return mean, log_std

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """``(B, C, H, W)`` to what goes on and the latents, half of it each, and the latter's log-determinant."""
        h, done = h.chunk(2, 1)
        mean, log_std = self._prior(h)
        return h, (done - mean) * torch.exp(-log_std), -log_std.flatten(1).sum(1)

    def inverse(self, h: Tensor, z: Tensor) -> Tensor:
        mean, log_std = self._prior(h)
        return torch.cat([h, mean + log_std.exp() * z], 1)


class Glow(ImageFlow):
    """Glow: Generative Flow with Invertible 1x1 Convolutions (arXiv:1807.03039).

    Steps of a flow at several scales take logits of points of [0, 1] to latents, of which half leave at each scale.
    The latents' Gaussians are learned: at the top for each latent and class, below from what goes on. ``z`` is in
    standard deviations of them, a change of variables that is counted, so N(0, I) is the prior of ``z``.

    A scale begins with a squeeze where both of its sides are even and at least 4, and the next one where the same is so
    again. A shape that cannot be squeezed at all has one scale; with one channel, its couplings are checkerboards.

    The likelihood, the maps and the priors are float32 whatever the coupling networks run in.

    Args:
        shape: ``(C, H, W)``.
        num_classes: of a class-conditional model; of the top's Gaussians and the coupling networks.
        levels: grey levels of the data.
        alpha: how far the logit keeps off 0 and 1; ``None`` is an eighth of a bin, ``1 / (8 levels)``.
        dequantization: of the grey levels, see ``ImageFlow``; uniform if left out.
        transform: of a coupling; ``Affine``, the paper's, if left out.
        num_scales: at most; fewer where the shape cannot be squeezed that often. The paper's L.
        num_steps: of the flow at each scale. The paper's K.
        width: features of the coupling networks.
        checkpointing: compute a step's features again for its gradients instead of keeping them: what the backward pass
            needs fits in the memory of one step, and on a CPU a training step takes twice the time.

    Raises:
        InputError: the shape is not an image's or is a single value, or an option is out of its range.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        num_classes: int | None = None,
        levels: int = 256,
        alpha: float | None = None,
        dequantization: nn.Module | None = None,
        transform: Transform | None = None,
        num_scales: int = 3,
        num_steps: int = 8,
        width: int = 64,
        checkpointing: bool = False,
    ) -> None:
        alpha = eighth_of_a_bin(levels) if alpha is None else alpha
        super().__init__(shape, num_classes, levels, alpha, dequantization)
        if min(num_scales, num_steps, width) < 1:
            raise InputError(
                f"num_scales={num_scales}, num_steps={num_steps}, width={width}: expected at least 1 of each"
            )
        transform = transform or Affine()
        self.checkpointing = checkpointing

        C, H, W = shape
        self.scales, self.splits = nn.ModuleList(), nn.ModuleList()  # of steps; between scales
        self.squeezed = squeezable(H, W)
        for _ in range(num_scales):
            if squeezable(H, W):
                C, H, W = 4 * C, H // 2, W // 2
            self.scales.append(
                nn.ModuleList(Step((C, H, W), i % 2, transform, width, num_classes) for i in range(num_steps))
            )
            if len(self.scales) == num_scales or not squeezable(H, W):
                break
            self.splits.append(Split(C))
            C = C // 2
        self.top_shape = (C, H, W)
        # Mean and log standard deviation of each latent at the top, for each class.
        self.top = nn.Embedding(num_classes or 1, 2 * math.prod(self.top_shape))
        nn.init.zeros_(self.top.weight)

    # -- from reals to latents -----------------------------------------------------------------------------------------

    def transform(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Logits ``(B, C, H, W)`` to ``z`` of all scales, ``(B, D)`` with the finest first, and ``log|det dz/dh|`` in
        nats, ``(B,)``.

        Raises:
            InputError: the model is conditional and ``y`` is None.
        """
        return self._transform(h, y)

    def _transform(self, h: Tensor, y: Tensor | None, *, fit: bool = False) -> tuple[Tensor, Tensor]:
        """``fit``: each normalization starts anew from what it is given."""
        self._check(y)
        latents, log_det = [], h.new_zeros(len(h))
        for i, steps in enumerate(self.scales):
            h = squeeze(h) if self.squeezed else h
            for step in cast(nn.ModuleList, steps):
                if fit:
                    cast(Step, step).norm.fit(h)
                if self.checkpointing and torch.is_grad_enabled():
                    h, d = checkpoint(step, h, y, use_reentrant=False, preserve_rng_state=False)
                else:
                    h, d = step(h, y)
                log_det = log_det + d
            if i < len(self.splits):
                h, z, d = self.splits[i](h)
                latents.append(z.flatten(1))
                log_det = log_det + d
        mean, log_std = self._top(len(h), y)
        latents.append((h.flatten(1) - mean) * torch.exp(-log_std))
        return torch.cat(latents, 1), log_det - log_std.sum(1)

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """The logits ``(B, C, H, W)`` that ``transform`` takes to ``z``.

        Raises:
            InputError: the model is conditional and ``y`` is None.
        """
        self._check(y)
        sizes = [self.num_dims // 2**i for i in range(1, len(self.splits) + 1)]
        *latents, last = z.split([*sizes, math.prod(self.top_shape)], 1)
        mean, log_std = self._top(len(z), y)
        h = (mean + log_std.exp() * last).unflatten(1, self.top_shape)
        for i in reversed(range(len(self.scales))):
            if i < len(self.splits):
                h = cast(Split, self.splits[i]).inverse(h, latents[i].view_as(h))
            for step in reversed(cast(list[Step], list(cast(nn.ModuleList, self.scales[i])))):
                h = step.inverse(h, y)
            h = unsqueeze(h) if self.squeezed else h
        return h

    def _top(self, num: int, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Means and log standard deviations of the top's latents, ``(B, D_top)`` each."""
        if self.num_classes is None:
            y = torch.zeros(num, dtype=torch.long, device=self.top.weight.device)
        mean, log_std = self.top(y).chunk(2, 1)
        return mean, log_std

    # -- the contract --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Start the normalizations, one after the other: each from what the ones before it make of the data."""
        y = None if y is None else y[:INITIAL_IMAGES]
        point, _ = self._draw(x[:INITIAL_IMAGES])
        self._transform(self._to_reals(point)[0], y, fit=True)


def squeezable(height: int, width: int) -> bool:
    """Whether patches of 2x2 become channels, and leave at least 2x2 places."""
    return height % 2 == width % 2 == 0 and min(height, width) >= 4
