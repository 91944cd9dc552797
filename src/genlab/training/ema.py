"""Exponential moving average of a model's weights, stored together with them in checkpoints."""

import weakref
from collections.abc import Sequence
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
        self._move(model, 1 - min(self.decay, (1 + self.updates) / (10 + self.updates)))
        self.updates += 1

    def _move(self, model: nn.Module, share: float) -> None:
        """Move the averages by a share of the way to the weights of the model, and copy its buffers."""
        if (pairs := _PAIRS.get(self)) is None or pairs.model() is not model:
            pairs = _PAIRS[self] = _Pairs(self.model, model)
        torch._foreach_lerp_(*_tensors(pairs.parameters), share)
        if pairs.buffers:
            torch._foreach_copy_(*_tensors(pairs.buffers))

    def train(self, mode: bool = True) -> "ExponentialMovingAverage":
        """Stay in evaluation mode, whatever ``mode`` is."""
        return super().train(False)

    def get_extra_state(self) -> dict[str, int]:
        return {"updates": self.updates}

    def set_extra_state(self, state: dict[str, int]) -> None:
        self.updates = state["updates"]


# Where a tensor of the copy and the model's of the same name are: two modules' tensors by name, and the name. The
# tensors themselves may be replaced, when a model moves to another device or sets a buffer.
_Place = tuple[dict[str, Tensor], dict[str, Tensor], str]


class _Pairs:
    """The places of all tensors of a copy, found once, because a walk through the modules takes long for a small step.

    The copy lacks the shared submodules, so that of tied weights it may keep another name than the model does.
    """

    def __init__(self, copy: nn.Module, model: nn.Module) -> None:
        self.model = weakref.ref(model)

        def place(name: str, kind: str) -> _Place:
            path, _, leaf = name.rpartition(".")
            return vars(copy.get_submodule(path))[kind], vars(model.get_submodule(path))[kind], leaf

        self.parameters = [place(name, "_parameters") for name, _ in copy.named_parameters()]
        self.buffers = [place(name, "_buffers") for name, _ in copy.named_buffers()]


# Beside the modules, so that a copy or a checkpoint of them does not take the other model along.
_PAIRS: weakref.WeakKeyDictionary[nn.Module, _Pairs] = weakref.WeakKeyDictionary()


def _tensors(places: list[_Place]) -> tuple[list[Tensor], list[Tensor]]:
    return [averages[name] for averages, _, name in places], [weights[name] for _, weights, name in places]


def _without_shared(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Drop the averages of shared submodules, which checkpoints of earlier versions contain."""
    assert isinstance(module, ExponentialMovingAverage)
    shared = tuple(f"{prefix}model.{name}." for name in module.shared)
    for key in [key for key in state if key.startswith(shared)]:
        del state[key]
