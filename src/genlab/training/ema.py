"""Exponential moving average of a model's weights, kept beside it in the checkpoint."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class ExponentialMovingAverage(nn.Module):
    """A frozen copy of a model that follows it: ``average <- d * average + (1 - d) * weights``.

    The decay warms up as ``min(decay, (1 + t) / (10 + t))``, so that a short run's average is not its
    initialisation. Buffers (batch-norm statistics) are copied, not averaged.

    Args:
        model: the model to follow.
        decay: d, in [0, 1).
        shared: names of submodules that are not averaged. The copy refers to the model's own ones, which its
            parameters and its state do not hold.
    """

    def __init__(self, model: nn.Module, decay: float, shared: Sequence[str] = ()) -> None:
        super().__init__()
        self.decay = decay
        self.updates = 0
        self.shared = tuple(shared)
        kept = {name: getattr(model, name) for name in self.shared}
        self.model = deepcopy(model, {id(module): module for module in kept.values()})
        for name, module in kept.items():
            # As plain attributes, so that the copy's mode, gradients and state leave them alone.
            delattr(self.model, name)
            object.__setattr__(self.model, name, module)
        self.model.requires_grad_(False).eval()
        self.register_load_state_dict_pre_hook(_without_shared)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = _pairs(self.model.named_parameters(), model.named_parameters(remove_duplicate=False))
        torch._foreach_lerp_(*pairs, 1 - decay)
        pairs = _pairs(self.model.named_buffers(), model.named_buffers(remove_duplicate=False))
        for average, buffer in zip(*pairs, strict=True):
            average.copy_(buffer)
        self.updates += 1

    def train(self, mode: bool = True) -> "ExponentialMovingAverage":
        """Always in evaluation mode: nothing trains here."""
        return super().train(False)

    def get_extra_state(self) -> dict[str, int]:
        return {"updates": self.updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.updates = state["updates"]


def _pairs(
    averages: Iterator[tuple[str, Tensor]], weights: Iterator[tuple[str, Tensor]]
) -> tuple[list[Tensor], list[Tensor]]:
    """The copy's tensors and the model's of the same names, of which the copy has fewer."""
    found, named = dict(weights), list(averages)
    return [average for _, average in named], [found[name] for name, _ in named]


def _without_shared(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Drop the averages of shared submodules, which checkpoints of earlier versions hold."""
    assert isinstance(module, ExponentialMovingAverage)
    shared = tuple(f"{prefix}model.{name}." for name in module.shared)
    for key in [key for key in state if key.startswith(shared)]:
        del state[key]
