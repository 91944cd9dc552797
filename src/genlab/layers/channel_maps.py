"""Affine maps of the channels: a normalization and the mixing that follows it as one matrix and one bias.

Layers of equal sizes are prepared together, by operators on stacks of their parameters: calling an operator takes
longer than the arithmetic of matrices this small.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from genlab.layers.invertible import ActNorm, ChannelMixing
from genlab.machine.devices import precise

# A matrix (C, C) and a bias (C,) for each layer.
ChannelMap = tuple[Tensor, Tensor]


def stacked(layers: Sequence[nn.Module], name: str) -> Tensor:
    """Stack one parameter of several layers, ``(layers, ...)``."""
    return torch.stack([getattr(layer, name) for layer in layers])


def scales_and_biases(norms: Sequence[ActNorm]) -> tuple[Tensor, Tensor]:
    """Give the logarithms of the scales of normalizations, and the biases that are added before: ``(layers, C)``."""
    log_scale, bias = (stacked(norms, name).flatten(1) for name in ("log_scale", "bias"))
    return norms[0].log_factor * log_scale, bias


def forward_maps(
    norms: Sequence[ActNorm], mixes: Sequence[ChannelMixing] | None, dtype: torch.dtype
) -> tuple[list[ChannelMap], Tensor]:
    """Fold normalizations into the mixings after them.

    Args:
        norms: normalizations with equally many channels.
        mixes: mixing of the channels after each of them, all of one class; None for none.
        dtype: precision of the maps.

    Returns:
        For each layer ``W`` and ``b`` such that the result is ``W h + b`` at every position, and the sum of the layers'
        log-determinants in nats, for one position.
    """
    log_scale, bias = (values.to(dtype) for values in scales_and_biases(norms))
    log_det = log_scale.sum()
    if mixes is None:
        weight = log_scale.exp().diag_embed()
    else:
        matrices, log_dets = type(mixes[0]).matrices(mixes, dtype)
        weight, log_det = matrices * log_scale.exp().unsqueeze(1), log_det + log_dets.sum()
    offset = torch.bmm(weight, bias.unsqueeze(2)).squeeze(2)
    return list(zip(weight.unbind(), offset.unbind(), strict=True)), log_det


def inverse_maps(
    norms: Sequence[ActNorm], mixes: Sequence[ChannelMixing] | None, dtype: torch.dtype
) -> list[ChannelMap]:
    """Give the inverses of :func:`forward_maps`, computed in the finest precision and then rounded."""
    log_scale, bias = scales_and_biases(norms)
    scale = torch.exp(-precise(log_scale))
    weight = scale.diag_embed() if mixes is None else type(mixes[0]).inverses(mixes) * scale.unsqueeze(2)
    return list(zip(weight.to(dtype).unbind(), (-bias).to(dtype).unbind(), strict=True))


def mapped(h: Tensor, channel_map: ChannelMap) -> Tensor:
    """Apply an affine map to the channels at every position of ``h``, ``(B, C, H, W)``.

    The result has the channels-last memory format, in which this is one product of matrices.
    """
    weight, bias = channel_map
    return from_rows(torch.addmm(bias, rows_of(h), weight.t()), h)


def rows_of(h: Tensor) -> Tensor:
    """Give features ``(B, C, H, W)`` as a matrix ``(B H W, C)``: a view if they are channels-last."""
    return h.permute(0, 2, 3, 1).reshape(-1, h.shape[1])


def from_rows(rows: Tensor, like: Tensor) -> Tensor:
    """View a matrix ``(B H W, C')`` as channels-last features ``(B, C', H, W)``, where ``like`` has these sides."""
    return rows.view(len(like), *like.shape[2:], rows.shape[1]).permute(0, 3, 1, 2)
