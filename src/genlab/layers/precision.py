"""Layers that compute in the precision of their weights under autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def own_precision(h: Tensor, needed: bool) -> AbstractContextManager[object]:
    """No autocast on the device of ``h`` inside, where that is needed."""
    return torch.autocast(h.device.type, enabled=False) if needed else nullcontext()
