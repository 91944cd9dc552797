"""Batch normalization as an invertible map, by running averages that hardly depend on the batch.

Density estimation using Real NVP, arXiv:1605.08803, section 3.7 and appendix E.
"""

import torch
from torch import Tensor, nn

# Keeps the scale finite where a channel is constant, as in the authors' code.
EPSILON = 1e-4


class RunningNorm(nn.Module):
    """Normalization ``(h - mean) / sqrt(variance + EPSILON)`` of each channel, by running averages over batches.

    In training, each batch moves the averages first, ``average <- momentum average + (1 - momentum) batch``, and is
    then normalized by them; gradients flow through the share of the batch. In evaluation the averages stay as they are,
    and an example does not depend on its batch.

    Args:
        channels: number of channels C.
        momentum: share of the averages that a batch leaves, in [0, 1).
        mask: zeros and ones, broadcastable to ``(C, H, W)``; where it is 1, values stay as they are and do not count.
            None to normalize all values.
    """

    mean: Tensor
    variance: Tensor
    changed: Tensor

    def __init__(self, channels: int, momentum: float, mask: Tensor | None = None) -> None:
        super().__init__()
        self.momentum = momentum
        self.fitting = False  # whether the next pass sets the averages to those of its batch
        self.register_buffer("mean", torch.zeros(channels, 1, 1))
        self.register_buffer("variance", torch.ones(channels, 1, 1))
        self.register_buffer("changed", torch.ones(1, 1, 1) if mask is None else 1 - mask, persistent=False)

    def _log_std(self, variance: Tensor) -> Tensor:
        """Compute the logarithms of the divisors; 0 where values stay as they are."""
        return self.changed * 0.5 * (variance + EPSILON).log()

    def _of_batch(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the means and variances of the values that change, ``(C, 1, 1)`` each."""
        weight = self.changed.expand(h.shape[1:])
        weight = weight / (len(h) * weight.sum((1, 2), keepdim=True)).clamp_min(1)
        mean = (weight * h).sum((0, 2, 3))[:, None, None]
        return mean, (weight * (h - mean).square()).sum((0, 2, 3))[:, None, None]

    def _statistics(self, h: Tensor) -> tuple[Tensor, Tensor]:
        """Give the means and variances that normalize ``h``, after moving the averages in training."""
        if not self.training and not self.fitting:
            return self.mean, self.variance
        kept = 0.0 if self.fitting else self.momentum
        of_batch = self._of_batch(h)
        mean, variance = (
            kept * average.clone() + (1 - kept) * new
            for average, new in zip((self.mean, self.variance), of_batch, strict=True)
        )
        with torch.no_grad():
            self.mean.copy_(mean)
            self.variance.copy_(variance)
        return mean, variance

    def forward(self, h: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Give the normalized ``(B, C, H, W)``, in at least float32, and the log-determinant in nats, ``(B,)``."""
        h = h.to(torch.promote_types(h.dtype, torch.float32))
        mean, variance = self._statistics(h)
        log_std = self._log_std(variance)
        log_det = -log_std.expand(h.shape[1:]).sum()
        return (h - self.changed * mean) * torch.exp(-log_std), log_det.expand(len(h))

    def inverse(self, h: Tensor, y: Tensor | None = None) -> Tensor:
        """Invert ``forward`` by the averages as they are."""
        return h * torch.exp(self._log_std(self.variance)) + self.changed * self.mean
