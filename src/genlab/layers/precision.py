"""Computation in the precision of the weights, also under autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def own_precision(h: Tensor, needed: bool) -> AbstractContextManager[object]:
    """Give a context that disables autocast on the device of ``h`` if ``needed``, and otherwise does nothing."""
    return torch.autocast(h.device.type, enabled=False) if needed else nullcontext()
