"""Invertible layers of images: activation normalization and 1x1 convolutions.

Glow: Generative Flow with Invertible 1x1 Convolutions, arXiv:1807.03039; Flow++, arXiv:1902.00275.
"""

import math

import torch
from torch import Tensor, nn


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


class InvertibleConvolution(nn.Module):
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

    def _factors(self, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        lu, s = self.lu.to(dtype), self.sign.to(dtype) * self.log_s.to(dtype).exp()
        one = torch.eye(len(s), dtype=dtype, device=s.device)
        return self.permutation.to(dtype), lu.tril(-1) + one, lu.triu(1) + s.diag()

    # Autocast is off below: rounded to bfloat16, W would not match its log-determinant and its inverse.

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``W h`` at every position and the log-determinant in nats, a scalar that all examples share."""
        with torch.autocast(h.device.type, enabled=False):
            permutation, lower, upper = self._factors(h.dtype)
            mixed = (permutation @ lower @ upper) @ h.flatten(2)
        return mixed.view_as(h), self.log_s.to(h.dtype).sum() * math.prod(h.shape[2:])

    def inverse(self, h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):
            # The inverse of this small matrix in float64, once, and not two triangular systems for each place.
            permutation, lower, upper = self._factors(torch.float64)
            weight = torch.linalg.solve_triangular(lower, permutation.T, upper=False, unitriangular=True)
            weight = torch.linalg.solve_triangular(upper, weight, upper=True)
            return (weight.to(h.dtype) @ h.flatten(2)).view_as(h)


class FullConvolution(nn.Module):
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

    def forward(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Return ``W h`` at every position and the log-determinant in nats, a scalar that all examples share."""
        with torch.autocast(h.device.type, enabled=False):
            weight = self.weight.to(h.dtype)
            mixed = weight @ h.flatten(2)
            log_det = torch.linalg.slogdet(weight).logabsdet
        return mixed.view_as(h), log_det * math.prod(h.shape[2:])

    def inverse(self, h: Tensor) -> Tensor:
        with torch.autocast(h.device.type, enabled=False):
            return torch.linalg.solve(self.weight.to(h.dtype), h.flatten(2)).view_as(h)
