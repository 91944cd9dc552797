"""Invertible layers of images: activation normalization and 1x1 convolutions.

Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv:1807.03039; Flow++, arXiv:1902.00275.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from genlab.machine.devices import finest, precise


class ActNorm(nn.Module):
    """Activation normalization, ``(h + bias) exp(log_factor log_scale)`` for each channel: section 3.1 of the paper.

    Args:
        channels: number of channels.
        log_factor: factor of the learned scales; an optimizer of the size of Adam's steps moves them so much faster.
    """

    def __init__(self, channels: int, log_factor: float | None = None) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_scale = nn.Parameter(torch.zeros(channels, 1, 1))
        self.log_factor = 1.0 if log_factor is None else log_factor
        self.fitting = False  # whether the next pass initializes it, see ``fitted``

    def fit(self, h: Tensor) -> None:
        """Initialize so that ``h``, ``(B, C, H, W)``, is normalized to zero mean and unit variance per channel."""
        std, mean = torch.std_mean(h, (0, 2, 3), correction=0, keepdim=True)
        self.bias.data.copy_(-mean[0])
        self.log_scale.data.copy_(-std[0].clamp_min(1e-3).log() / self.log_factor)  # a single value has no variance

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalized ``h`` and the log-determinant in nats, a scalar that is the same for every example."""
        if self.fitting:
            self.fit(h)
        log_scale = self.log_factor * self.log_scale
        return (h + self.bias) * log_scale.exp(), log_scale.sum() * math.prod(h.shape[2:])

    def inverse(self, h: Tensor) -> Tensor:
        return h * torch.exp(-self.log_factor * self.log_scale) - self.bias


class PlaceNorm(nn.Module):
    """Normalization ``h scale + bias`` with a scale and a bias for each channel and place, initialized from data.

    Flow++ (arXiv:1902.00275), as in its authors' code.

    Args:
        shape: shape of the features, ``(C, H, W)``.
    """

    LEAST = 1e-10  # lower limit on a scale, which keeps the map increasing

    def __init__(self, shape: tuple[int, int, int]) -> None:
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(shape))
        self.scale = nn.Parameter(torch.ones(shape))
        self.fitting = False  # whether the next pass initializes it, see ``fitted``

    def fit(self, h: Tensor) -> None:
        """Initialize so that ``h``, ``(B, C, H, W)``, is normalized to zero mean and unit variance at every place."""
        variance, mean = torch.var_mean(h, 0, correction=0)
        self.scale.data.copy_(torch.rsqrt(variance + 1e-4))  # a single value has no variance
        self.bias.data.copy_(-mean * self.scale)

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return the normalized ``h`` and the log-determinant in nats, a scalar that is the same for every example."""
        if self.fitting:
            self.fit(h)
        scale = self.scale.to(h.dtype).clamp_min(self.LEAST)
        return h * scale + self.bias, scale.log().sum()

    def inverse(self, h: Tensor) -> Tensor:
        return (h - self.bias) / self.scale.to(h.dtype).clamp_min(self.LEAST)


class ChannelMixing(nn.Module, ABC):
    """An invertible 1x1 convolution: a matrix ``W`` that mixes the channels at every position.

    The matrices of several layers with equally many channels are computed together, which takes fewer operators.
    """

    @staticmethod
    @abstractmethod
    def matrices(layers: Sequence[Any], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Give ``W`` of several layers of this class, ``(layers, C, C)``, and ``log|det W|`` in nats, ``(layers,)``.

        Args:
            layers: layers with equally many channels.
            dtype: precision of the results.
        """

    @staticmethod
    @abstractmethod
    def inverses(layers: Sequence[Any]) -> Tensor:
        """Give the inverses of ``W`` of several layers of this class, in the finest precision, ``(layers, C, C)``.

        Args:
            layers: layers with equally many channels.
        """

    # Autocast is off here and in the subclasses: rounded to bfloat16, W would not match its log-determinant and its
    # inverse.

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``W h`` at every position and the log-determinant in nats, a scalar that all examples share."""
        matrices, log_dets = self.matrices([self], h.dtype)
        with torch.autocast(h.device.type, enabled=False):
            return (matrices[0] @ h.flatten(2)).view_as(h), log_dets[0] * math.prod(h.shape[2:])

    def inverse(self, h: Tensor) -> Tensor:
        weight = self.inverses([self])[0].to(h.dtype)
        with torch.autocast(h.device.type, enabled=False):
            return (weight @ h.flatten(2)).view_as(h)


class InvertibleConvolution(ChannelMixing):
    """An invertible 1x1 convolution with the weight ``W = P L (U + diag(s))``: section 3.2 of the paper.

    It starts as a random rotation; its permutation ``P`` and the signs of ``s`` stay fixed. ``L`` is unit lower
    triangular and ``U`` strictly upper triangular; one matrix of parameters holds both, and its diagonal is unused.
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

    @staticmethod
    def _factors(layers: Sequence[Any], dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Give ``P``, ``L`` and ``U + diag(s)`` of several layers, ``(layers, C, C)`` each."""
        names = ("permutation", "lu", "log_s", "sign")
        P, lu, log_s, sign = (torch.stack([getattr(layer, name) for layer in layers]).to(dtype) for name in names)
        one = torch.eye(lu.shape[1], dtype=dtype, device=lu.device)
        return P, lu.tril(-1) + one, lu.triu(1) + (sign * log_s.exp()).diag_embed()

    @staticmethod
    def matrices(layers: Sequence[Any], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        with torch.autocast(layers[0].lu.device.type, enabled=False):
            permutation, lower, upper = InvertibleConvolution._factors(layers, dtype)
            log_s = torch.stack([layer.log_s for layer in layers]).to(dtype)
            return permutation @ (lower @ upper), log_s.sum(1)

    @staticmethod
    def inverses(layers: Sequence[Any]) -> Tensor:
        with torch.autocast(layers[0].lu.device.type, enabled=False):
            # Of these small matrices once, and not two triangular systems for each place.
            permutation, lower, upper = InvertibleConvolution._factors(layers, finest(layers[0].lu.device))
            half = torch.linalg.solve_triangular(lower, permutation.mT, upper=False, unitriangular=True)
            return torch.linalg.solve_triangular(upper, half, upper=True)


class FullConvolution(ChannelMixing):
    """An invertible 1x1 convolution whose matrix ``W`` is the parameter, as in the authors' code.

    Its log-determinant costs a factorization in each step, which ``InvertibleConvolution`` saves.

    Args:
        channels: number of channels.
        first_deviation: standard deviation of the initial matrix from the identity; None to start as a rotation.
    """

    def __init__(self, channels: int, first_deviation: float | None = None) -> None:
        super().__init__()
        noise = torch.randn(channels, channels)
        if first_deviation is None:
            self.weight = nn.Parameter(torch.linalg.qr(noise)[0])
        else:
            self.weight = nn.Parameter(torch.eye(channels) + first_deviation * noise)

    @staticmethod
    def matrices(layers: Sequence[Any], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        with torch.autocast(layers[0].weight.device.type, enabled=False):
            weight = torch.stack([layer.weight for layer in layers]).to(dtype)
            return weight, torch.linalg.slogdet(weight).logabsdet

    @staticmethod
    def inverses(layers: Sequence[Any]) -> Tensor:
        with torch.autocast(layers[0].weight.device.type, enabled=False):
            return torch.linalg.inv(precise(torch.stack([layer.weight for layer in layers])))

    def inverse(self, h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):
            return torch.linalg.solve(self.weight.to(h.dtype), h.flatten(2)).view_as(h)
