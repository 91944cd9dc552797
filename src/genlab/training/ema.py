"""Exponential moving average of a model's weights, kept beside it in the checkpoint."""

from copy import deepcopy

import torch
from torch import nn


class ExponentialMovingAverage(nn.Module):
    """A frozen copy of a model that follows it: ``average <- d * average + (1 - d) * weights``.

    The decay warms up as ``min(decay, (1 + t) / (10 + t))``, so that a short run's average is not its
    initialisation. Buffers (batch-norm statistics) are copied, not averaged.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        self.updates = 0
        self.model = deepcopy(model).requires_grad_(False).eval()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(list(self.model.parameters()), list(model.parameters()), 1 - decay)
        for average, buffer in zip(self.model.buffers(), model.buffers(), strict=True):
            average.copy_(buffer)
        self.updates += 1

    def train(self, mode: bool = True) -> "ExponentialMovingAverage":
        """Always in evaluation mode: nothing trains here."""
        return super().train(False)

    def get_extra_state(self) -> dict[str, int]:
        return {"updates": self.updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.updates = state["updates"]
