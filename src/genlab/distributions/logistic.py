"""Logarithms of the logistic function and of its differences, fast on CPUs.

On CPUs, torch's kernels for log1p and expm1 take twelve times as long as those for log and exp, and would be the most
expensive part of a small model's likelihood.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def log_sigmoid(s: Tensor) -> Tensor:
    """Compute log(sigmoid(s)) elementwise, with an absolute error of one rounding of float32 (6e-8)."""
    if s.device.type != "cpu":
        return F.logsigmoid(s)
    if torch.compiler.is_compiling():  # the compiler's code for log1p is slow, too
        return torch.minimum(s, torch.zeros_like(s)) - torch.log(1 + torch.exp(-s.abs()))
    return _LogSigmoid.apply(s)


class _LogSigmoid(torch.autograd.Function):
    """Function min(s, 0) - log(1 + exp(-|s|)), with its derivative sigmoid(-s); autograd's would be wrong at s = 0."""

    @staticmethod
    def forward(s: Tensor) -> Tensor:
        tail = s.abs().neg_().exp_().add_(1).log_()
        return torch.sub(s.clamp(max=0), tail, out=tail)

    @staticmethod
    def setup_context(context: Any, inputs: tuple[Tensor], output: Tensor) -> None:
        context.save_for_backward(*inputs)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        (s,) = context.saved_tensors
        return gradient * torch.sigmoid(-s)


def log_one_minus_exp(w: Tensor) -> Tensor:
    """Compute log(1 - exp(-w)) for w > 0, elementwise, without cancellation if w is small."""
    if w.device.type != "cpu":
        return torch.log(-torch.expm1(-w))
    # The series around 0, with a remainder below 1e-11 for w < 0.1.
    square = w * w
    series = torch.log(w) - w / 2 + square / 24 - square * square / 2880
    return torch.where(w < 0.1, series, torch.log(1 - torch.exp(-w.clamp_min(0.1))))
