"""Exponential moving average of a model's weights, stored together with them in checkpoints."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, nn


class ExponentialMovingAverage(nn.Module):
    """A frozen copy of a model with averaged weights: ``average <- d * average + (1 - d) * weights``.

    At update t, the decay is ``min(decay, (1 + t) / (10 + t))``, so that the average of a short run is not dominated by
    the initial weights. Buffers (such as batch normalization statistics) are copied, not averaged.

    Args:
        model: model to average.
        decay: decay d, in [0, 1).
        shared: names of submodules that are not averaged. The copy refers to those of the model; they are not part of
            its parameters or its state.
    """

    def __init__(self, model: nn.Module, decay: float, shared: Sequence[str] = ()) -> None:
        super().__init__()
        self.decay = decay
        self.updates = 0
        self.shared = tuple(shared)
        kept = {name: getattr(model, name) for name in self.shared}
        self.model = deepcopy(model, {id(module): module for module in kept.values()})
        for name, module in kept.items():
            # Set as plain attributes, so that train(), requires_grad_() and state_dict() of the copy skip them.
            delattr(self.model, name)
            object.__setattr__(self.model, name, module)
        self.model.requires_grad_(False).eval()
        self.register_load_state_dict_pre_hook(_without_shared)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Update the average with the current weights of the model."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        pairs = _pairs(self.model.named_parameters(), model.named_parameters(remove_duplicate=False))
        torch._foreach_lerp_(*pairs, 1 - decay)
        pairs = _pairs(self.model.named_buffers(), model.named_buffers(remove_duplicate=False))
        for average, buffer in zip(*pairs, strict=True):
            average.copy_(buffer)
        self.updates += 1

    def train(self, mode: bool = True) -> "ExponentialMovingAverage":
        """Stay in evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    def get_extra_state(self) -> dict[str, int]:
        return {"updates": self.updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.updates = state["updates"]


def _pairs(
    averages: Iterator[tuple[str, Tensor]], weights: Iterator[tuple[str, Tensor]]
) -> tuple[list[Tensor], list[Tensor]]:
    """Pair the tensors of the copy with the model's tensors of the same names; the model may have more."""
    found, named = dict(weights), list(averages)
    return [average for _, average in named], [found[name] for name, _ in named]


def _without_shared(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Drop the averages of shared submodules, which checkpoints of earlier versions contain."""
    assert isinstance(module, ExponentialMovingAverage)
    shared = tuple(f"{prefix}model.{name}." for name in module.shared)
    for key in [key for key in state if key.startswith(shared)]:
        del state[key]
