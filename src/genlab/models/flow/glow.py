"""Glow: steps of normalization, channel mixing and coupling, at several scales with learned priors."""

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.utils.checkpoint import checkpoint

from genlab.errors import InputError
from genlab.layers.channel_maps import ChannelMap, forward_maps, from_rows, inverse_maps, mapped, rows_of
from genlab.layers.coupling import checkerboard_mask, squeeze, unsqueeze
from genlab.layers.fitting import fitted
from genlab.layers.invertible import ActNorm, ChannelMixing, FullConvolution, InvertibleConvolution
from genlab.layers.precision import network_dtype
from genlab.layers.transforms import Affine, Transform
from genlab.models.flow.glow_nets import (
    CouplingNet,
    FoldedNet,
    NetOptions,
    ZeroConvolution,
    convolved,
    convolved_backward,
    folded_nets,
)
from genlab.models.flow.image_flow import ImageFlow, eighth_of_a_bin

# Number of training images that initialize the normalizations: about a batch, as in the paper.
INITIAL_IMAGES = 256


class HalfCoupling(nn.Module):
    """A coupling in which the first half of the channels gives the parameters of ``transform`` for the second half."""

    def __init__(self, channels: int, transform: Transform, options: NetOptions) -> None:
        super().__init__()
        self.kept = channels // 2
        self.is_affine = type(transform) is Affine
        self.net = CouplingNet(self.kept, transform.num_params * (channels - self.kept), options)
        self.transform = transform

    def _params(self, h: Tensor, y: Tensor | None, convs: FoldedNet | None) -> Tensor:
        return _run(self.net, h[:, : self.kept], y, convs)

    def forward(self, h: Tensor, y: Tensor | None, convs: FoldedNet | None = None) -> tuple[Tensor, Tensor]:
        return self.transform.of_channels(h, self._params(h, y, convs), self.kept)

    def inverse(self, h: Tensor, y: Tensor | None, convs: FoldedNet | None = None) -> Tensor:
        return self.transform.inverse_of_channels(h, self._params(h, y, convs), self.kept)


class CheckerboardCoupling(nn.Module):
    """A coupling of a single channel, which cannot be split into halves.

    The pixels of one colour of a checkerboard give the parameters of ``transform`` for the pixels of the other colour.
    """

    mask: Tensor

    def __init__(self, size: tuple[int, int], parity: int, transform: Transform, options: NetOptions) -> None:
        super().__init__()
        self.net = CouplingNet(1, transform.num_params, options)
        self.transform = transform
        self.register_buffer("mask", checkerboard_mask(*size, parity).bool(), persistent=False)

    def _params(self, h: Tensor, y: Tensor | None, convs: FoldedNet | None) -> Tensor:
        return _run(self.net, h * self.mask, y, convs).unsqueeze(2)

    def forward(self, h: Tensor, y: Tensor | None, convs: FoldedNet | None = None) -> tuple[Tensor, Tensor]:
        changed, log_slope = self.transform.forward(h, self._params(h, y, convs))
        return torch.where(self.mask, h, changed), log_slope.masked_fill(self.mask, 0).flatten(1).sum(1)

    def inverse(self, h: Tensor, y: Tensor | None, convs: FoldedNet | None = None) -> Tensor:
        return torch.where(self.mask, h, self.transform.inverse(h, self._params(h, y, convs)))


def _run(net: CouplingNet, h: Tensor, y: Tensor | None, convs: FoldedNet | None) -> Tensor:
    return net(h, y) if convs is None else net.folded(h, y, convs)


class Step(nn.Module):
    """One step of the flow: normalization, mixing of the channels if there are several, and a coupling (figure 2a).

    Args:
        shape: shape of the features, ``(C, H, W)``.
        parity: parity of the checkerboard, 0 or 1, used if there is one channel.
        transform: transform that the coupling applies to each value.
        options: options of the coupling network.
        lu: whether the mixing of channels is factorized.
    """

    def __init__(
        self, shape: tuple[int, int, int], parity: int, transform: Transform, options: NetOptions, lu: bool
    ) -> None:
        super().__init__()
        C, H, W = shape
        self.norm = ActNorm(C, options.log_factor)
        self.mix = (InvertibleConvolution(C) if lu else FullConvolution(C)) if C > 1 else None
        self.coupling: HalfCoupling | CheckerboardCoupling
        if C > 1:
            self.coupling = HalfCoupling(C, transform, options)
        else:
            self.coupling = CheckerboardCoupling((H, W), parity, transform, options)

    def forward(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the step layer by layer; while the normalizations are fitted, each starts from its input."""
        h, log_det = self.norm(h)
        if self.mix is not None:
            h, d = self.mix(h)
            log_det = log_det + d
        h, d = self.coupling(h, y)
        return h, log_det + d

    def folded(self, h: Tensor, y: Tensor | None, channel_map: ChannelMap, convs: FoldedNet) -> tuple[Tensor, Tensor]:
        """Compute the step, and the log-determinant of its coupling alone, from what :class:`Steps` prepares."""
        coupling = self.coupling
        if isinstance(coupling, HalfCoupling) and coupling.is_affine and not torch.compiler.is_compiling():
            of_class = coupling.net.of_class(y, convs[0].dtype)
            return _AffineStep.apply(h, coupling.kept, of_class, *channel_map, *convs)
        return coupling(mapped(h, channel_map), y, convs)

    def inverse(self, h: Tensor, y: Tensor | None, inverse_map: ChannelMap, convs: FoldedNet) -> Tensor:
        return mapped(self.coupling.inverse(h, y, convs), inverse_map)


class _AffineStep(torch.autograd.Function):
    """A step with an affine coupling, of few operators in both directions, whose calls would take most of its time."""

    @staticmethod
    def forward(
        ctx: Any, h: Tensor, kept: int, of_class: Tensor | None, weight: Tensor, bias: Tensor, *convs: Tensor
    ) -> tuple[Tensor, Tensor]:
        rows = rows_of(h)
        out = from_rows(torch.addmm(bias, rows, weight.t()), h)
        first = out[:, :kept].to(convs[0].dtype, memory_format=torch.channels_last)
        params, *features = convolved(first, of_class, *convs)
        slope, log_det = Affine.change(out, params, kept)
        ctx.save_for_backward(rows, weight, out, slope, first, *features, *convs)
        ctx.kept, ctx.has_classes = kept, of_class is not None
        return out, log_det

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_log_det: Tensor) -> tuple[Tensor | None, ...]:
        rows, weight, out, slope, *of_net = ctx.saved_tensors
        grad, of_params = Affine.change_backward(grad, grad_log_det, out, slope, ctx.kept)
        below, *of_convs = convolved_backward(of_params.to(of_net[0].dtype), ctx.has_classes, *of_net)
        assert below is not None
        grad[:, : ctx.kept] += below
        grad_rows = rows_of(grad)
        of_h = from_rows(grad_rows @ weight, grad) if ctx.needs_input_grad[0] else None
        return of_h, None, of_convs[0], grad_rows.t() @ rows, grad_rows.sum(0), *of_convs[1:]


class Steps(nn.ModuleList):
    """The steps of one scale, which have equal sizes, so that what does not depend on the features is computed at once.

    Args:
        shape: shape of the features, ``(C, H, W)``.
        num_steps: number of steps.
        transform: transform that the couplings apply to each value.
        options: options of the coupling networks.
        lu: whether the mixing of channels is factorized.
    """

    def __init__(
        self, shape: tuple[int, int, int], num_steps: int, transform: Transform, options: NetOptions, lu: bool
    ) -> None:
        super().__init__(Step(shape, i % 2, transform, options, lu) for i in range(num_steps))
        self.size = shape[1:]

    def _parts(self) -> tuple[list[Step], list[ActNorm], list[ChannelMixing] | None]:
        steps = cast(list[Step], list(self))
        mixes: list[ChannelMixing] = [step.mix for step in steps if step.mix is not None]
        return steps, [step.norm for step in steps], mixes or None

    def _nets(self, steps: list[Step], h: Tensor) -> list[FoldedNet]:
        nets = [step.coupling.net for step in steps]
        return folded_nets(nets, self.size, network_dtype(nets[0].middle.weight.dtype, h.device))

    def forward(self, h: Tensor, y: Tensor | None, checkpointing: bool = False) -> tuple[Tensor, Tensor]:
        """Map features ``(B, C, H, W)``; give the log-determinant in nats, ``(B,)``, too.

        Args:
            h: features, in at least float32.
            y: classes, int64 ``(B,)``; None for an unconditional model.
            checkpointing: whether the backward pass recomputes the features of each step.
        """
        steps, norms, mixes = self._parts()
        nets = self._nets(steps, h)
        log_dets = []
        with torch.autocast(h.device.type, enabled=False):  # the networks have their precision
            maps, log_det = forward_maps(norms, mixes, h.dtype)
            for step, channel_map, convs in zip(steps, maps, nets, strict=True):
                if checkpointing and torch.is_grad_enabled():
                    h, d = checkpoint(
                        step.folded, h, y, channel_map, convs, use_reentrant=False, preserve_rng_state=False
                    )
                else:
                    h, d = step.folded(h, y, channel_map, convs)
                log_dets.append(d)
            return h, torch.stack(log_dets).sum(0) + log_det * math.prod(self.size)

    def layer_by_layer(self, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Compute the same as ``forward`` layer by layer, as it takes to fit the normalizations."""
        log_det = h.new_zeros(len(h))
        for step in self:
            h, d = step(h, y)
            log_det = log_det + d
        return h, log_det

    def inverse(self, h: Tensor, y: Tensor | None) -> Tensor:
        steps, norms, mixes = self._parts()
        nets = self._nets(steps, h)
        with torch.autocast(h.device.type, enabled=False):
            maps = inverse_maps(norms, mixes, h.dtype)
            for step, inverse_map, convs in zip(reversed(steps), reversed(maps), reversed(nets), strict=True):
                h = step.inverse(h, y, inverse_map, convs)
        return h


class Split(nn.Module):
    """A split after a scale: half of the channels become latents, the other half go to the next scale.

    The channels that go on predict a Gaussian prior for the latents, which are standardised by it.
    """

    def __init__(self, channels: int, options: NetOptions) -> None:
        super().__init__()
        self.prior = ZeroConvolution(channels // 2, channels, options)

    def _prior(self, h: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(h.device.type, enabled=False):
            mean, log_std = self.prior(h.to(self.prior.weight.dtype)).to(h.dtype).chunk(2, 1)
        return mean, log_std

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Split ``(B, C, H, W)`` into the features that go on, the latents (half of the channels each) and ``log_det``.

        The log-determinant ``(B,)`` is that of standardising the latents, in nats.
        """
        h, done = h.chunk(2, 1)
        mean, log_std = self._prior(h)
        return h, (done - mean) * torch.exp(-log_std), -log_std.flatten(1).sum(1)

    def inverse(self, h: Tensor, z: Tensor) -> Tensor:
        mean, log_std = self._prior(h)
        return torch.cat([h, mean + log_std.exp() * z], 1)


class ChannelPrior(nn.Module):
    """Gaussians of the top's latents that all places share but for the edges: the authors' option ``learntop``.

    A convolution of zeros gives the means and log standard deviations: its biases for each channel and, with an edge
    channel, what depends on the distance from the edges. A class adds a bias. Most of its weights are multiplied by
    zeros and never change; they are here because the authors' models have and count them.
    """

    def __init__(self, shape: tuple[int, int, int], options: NetOptions) -> None:
        super().__init__()
        C, self.H, self.W = shape
        self.conv = ZeroConvolution(2 * C, 2 * C, options)
        self.embedding = None if options.num_classes is None else nn.Embedding(options.num_classes, 2 * C)
        if self.embedding is not None:
            nn.init.zeros_(self.embedding.weight)

    def forward(self, num: int, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the means and log standard deviations of ``num`` examples, ``(B, D_top)`` each."""
        weight = self.conv.weight
        with torch.autocast(weight.device.type, enabled=False):
            params = self.conv(weight.new_zeros(1, self.conv.out_channels, self.H, self.W))
        if self.embedding is not None:
            params = params + self.embedding(y)[:, :, None, None]
        mean, log_std = params.expand(num, -1, -1, -1).chunk(2, 1)
        return mean.flatten(1), log_std.flatten(1)


class Glow(ImageFlow):
    """Glow: Generative Flow with Invertible 1x1 Convolutions (arXiv:1807.03039).

    Steps at several scales map logits of dequantized images to latents; after each scale but the last, half of the
    channels become latents. The Gaussian priors of the latents are learned: at the last scale (the top) for each latent
    and class, at the others predicted from the features that go on. ``z`` is standardised by these Gaussians, and the
    likelihood includes this change of variables, so the prior of ``z`` is N(0, I).

    Each scale begins with a squeeze, which needs both sides to be even and at least 4. A shape that cannot be squeezed
    at all has one scale; if it also has one channel, the couplings are checkerboards.

    The likelihood, the transforms and the priors are computed in at least float32, whatever the precision of the
    coupling networks.

    The options from ``edge_channel`` on are details of the authors' code (github.com/openai/glow). With
    ``edge_channel``, ``nets_normalized``, ``log_factor=3``, ``init_std=0.05``, ``top_by_place=False``, ``lu=False`` and
    ``logit=False`` the model is theirs, to the number of its parameters.

    Args:
        shape: image shape ``(C, H, W)``.
        num_classes: number of classes, on which the coupling networks and the top's Gaussians depend; None for an
            unconditional model.
        levels: number of grey levels of the data.
        alpha: margin that keeps the logit's argument away from 0 and 1, above 0 and below 0.5; None for an eighth of a
            bin, ``1 / (8 levels)``.
        dequantization: module that draws the dequantization noise, see ``ImageFlow``; None for uniform noise.
        transform: transform that a coupling applies to each value; None for ``Affine``, as in the paper.
        num_scales: maximum number of scales, L of the paper; there are fewer if the shape cannot be squeezed as often.
        num_steps: number of steps at each scale, K of the paper.
        width: channels of the coupling networks.
        checkpointing: whether the backward pass recomputes the features of each step instead of storing them. It then
            needs the memory of one step, and on a CPU a training step takes twice the time.
        edge_channel: whether 3x3 convolutions see a channel that is 1 beyond the edges of the image.
        nets_normalized: whether the coupling networks normalize the features after their first two convolutions, with
            scales and biases that start from the data, instead of adding biases.
        log_factor: factor of learned scales: that of a normalization is ``exp(log_factor log_scale)``, and the
            convolutions that start as 0 get one of the same kind for each output; None for ``exp(log_scale)`` and no
            scale of outputs.
        init_std: standard deviation of the initial weights in the coupling networks; None for PyTorch's.
        top_by_place: whether each latent of the top has its own Gaussian; False for one per channel, which depends on
            the distance from the edges if there is an edge channel.
        lu: whether the mixing of channels is factorized as in section 3.2; False for a plain matrix.
        logit: whether grey levels are mapped to logits; False for a flow of the grey levels in [0, 1] themselves.

    Raises:
        InputError: if the shape is not an image's or is a single value, or an option is out of its range.
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
        edge_channel: bool = False,
        nets_normalized: bool = False,
        log_factor: float | None = None,
        init_std: float | None = None,
        top_by_place: bool = True,
        lu: bool = True,
        logit: bool = True,
    ) -> None:
        if not logit and alpha is not None:
            raise InputError(f"alpha={alpha}: the margin of the logit, which logit=false leaves out")
        alpha = eighth_of_a_bin(levels) if logit and alpha is None else alpha
        super().__init__(shape, num_classes, levels, alpha, dequantization)
        if min(num_scales, num_steps, width) < 1:
            raise InputError(
                f"num_scales={num_scales}, num_steps={num_steps}, width={width}: expected at least 1 of each"
            )
        for name, value in (("log_factor", log_factor), ("init_std", init_std)):
            if value is not None and value <= 0:
                raise InputError(f"{name}={value}: expected above 0, or null")
        transform = transform or Affine()
        options = NetOptions(width, num_classes, edge_channel, nets_normalized, log_factor, init_std)
        self.checkpointing = checkpointing

        C, H, W = shape
        self.scales, self.splits = nn.ModuleList(), nn.ModuleList()  # lists of steps; the splits between them
        self.squeezed = squeezable(H, W)
        for _ in range(num_scales):
            if squeezable(H, W):
                C, H, W = 4 * C, H // 2, W // 2
            self.scales.append(Steps((C, H, W), num_steps, transform, options, lu))
            if len(self.scales) == num_scales or not squeezable(H, W):
                break
            self.splits.append(Split(C, options))
            C = C // 2
        self.top_shape = (C, H, W)
        self.top: nn.Embedding | ChannelPrior
        if top_by_place:  # mean and log standard deviation of each latent of the last scale (the top), for each class
            self.top = nn.Embedding(num_classes or 1, 2 * math.prod(self.top_shape))
            nn.init.zeros_(self.top.weight)
        else:
            self.top = ChannelPrior(self.top_shape, options)

    # -- from reals to latents -----------------------------------------------------------------------------------------

    def transform(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Map logits ``(B, C, H, W)`` to latents ``z``, ``(B, D)``, and ``log|det dz/dh|`` in nats, ``(B,)``.

        The latents of the finest scale come first.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        return self._transform(h, y, lambda steps, h: steps(h, y, self.checkpointing))

    def _transform(
        self, h: Tensor, y: Tensor | None, run: Callable[[Steps, Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        self._check(y)
        latents, log_det = [], h.new_zeros(len(h))
        for i, steps in enumerate(self.scales):
            h, d = run(cast(Steps, steps), squeeze(h) if self.squeezed else h)
            log_det = log_det + d
            if i < len(self.splits):
                h, z, d = self.splits[i](h)
                latents.append(z.flatten(1))
                log_det = log_det + d
        mean, log_std = self._top(len(h), y)
        latents.append((h.flatten(1) - mean) * torch.exp(-log_std))
        return torch.cat(latents, 1), log_det - log_std.sum(1)

    def inverse(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        """Map latents ``z`` back to the logits ``(B, C, H, W)``: the inverse of ``transform``.

        Raises:
            InputError: if the model is conditional and ``y`` is None.
        """
        self._check(y)
        sizes = [self.num_dims // 2**i for i in range(1, len(self.splits) + 1)]
        *latents, last = z.split([*sizes, math.prod(self.top_shape)], 1)
        mean, log_std = self._top(len(z), y)
        h = (mean + log_std.exp() * last).unflatten(1, self.top_shape)
        for i in reversed(range(len(self.scales))):
            if i < len(self.splits):
                h = cast(Split, self.splits[i]).inverse(h, latents[i].view_as(h))
            h = cast(Steps, self.scales[i]).inverse(h, y)
            h = unsqueeze(h) if self.squeezed else h
        return h

    def _top(self, num: int, y: Tensor | None) -> tuple[Tensor, Tensor]:
        """Return the means and log standard deviations of the top's latents, ``(B, D_top)`` each."""
        if isinstance(self.top, ChannelPrior):
            return self.top(num, y)
        if self.num_classes is None:
            y = torch.zeros(num, dtype=torch.long, device=self.top.weight.device)
        mean, log_std = self.top(y).chunk(2, 1)
        return mean, log_std

    # -- the contract --------------------------------------------------------------------------------------------------

    @torch.no_grad()
    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Initialize the normalizations in sequence, each from the data as transformed by the steps before it."""
        y = None if y is None else y[:INITIAL_IMAGES]
        point, _ = self._draw(x[:INITIAL_IMAGES])
        with fitted([module for module in self.modules() if isinstance(module, ActNorm)]):
            self._transform(self._to_reals(point)[0], y, lambda steps, h: steps.layer_by_layer(h, y))


def squeezable(height: int, width: int) -> bool:
    """Tell whether 2x2 patches can be turned into channels so that at least 2x2 positions remain."""
    return height % 2 == width % 2 == 0 and min(height, width) >= 4
