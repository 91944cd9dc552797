"""Precision of computation: that of the weights also under autocast, and that of autocast; memory format."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def own_precision(h: Tensor, needed: bool) -> AbstractContextManager[object]:
    """Give a context that disables autocast on the device of ``h`` if ``needed``, and otherwise does nothing."""
    return torch.autocast(h.device.type, enabled=False) if needed else nullcontext()


def network_dtype(own: torch.dtype, device: torch.device) -> torch.dtype:
    """Give the precision in which autocast runs convolutions with float32 weights, or else that of the weights.

    Args:
        own: precision of the weights.
        device: device of the network.
    """
    if own == torch.float32 and torch.is_autocast_enabled(device.type):
        return torch.get_autocast_dtype(device.type)
    return own


def channels_last_on_cpu(h: Tensor) -> Tensor:
    """Give features ``(B, C, H, W)`` in the channels-last memory format, faster on a CPU; elsewhere as they are."""
    return h.contiguous(memory_format=torch.channels_last) if h.device.type == "cpu" else h
