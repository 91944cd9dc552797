"""Which module an operation belongs to, in the forward pass and in the backward pass."""

from bisect import bisect_right
from typing import Any

import torch
from torch import nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils.parametrize import type_before_parametrizations

OUTSIDE = "outside of modules"


class Calls:
    """Context that knows at any time the class of the innermost module whose operation is computed.

    A node of the backward pass has the number that PyTorch's counter had when its operation was computed, so that the
    numbers at which modules were entered and left tell its module. PyTorch's own tracker of modules in its counter of
    operations hooks into the graph instead, which fails for gradients of gradients. These count as outside.
    """

    def __init__(self) -> None:
        self._stack: list[str] = []
        self._numbers = [-1]
        self._names = [OUTSIDE]

    def __enter__(self) -> "Calls":
        self._handles = [
            register_module_forward_pre_hook(self._enter),
            register_module_forward_hook(self._leave, always_call=True),
        ]
        return self

    def __exit__(self, *_: Any) -> None:
        for handle in self._handles:
            handle.remove()

    def current(self) -> str:
        """Give the name of the innermost module's class."""
        if self._stack:
            return self._stack[-1]
        node = torch._C._current_autograd_node()
        if node is None:
            return OUTSIDE
        return self._names[bisect_right(self._numbers, node._sequence_nr()) - 1]

    def _enter(self, module: nn.Module, _: Any) -> None:
        self._stack.append(type_before_parametrizations(module).__name__)
        self._note()

    def _leave(self, *_: Any) -> None:
        self._stack.pop()
        self._note()

    def _note(self) -> None:
        self._numbers.append(torch.autograd._get_sequence_nr())
        self._names.append(self._stack[-1] if self._stack else OUTSIDE)
