"""Memory that a network's activations take for one example, by which the samples of a batch are counted."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

ROOM = 2**30  # bytes that the activations of a batch of samples may take


class Activations:
    """The largest output of every layer, seen in passes without gradients.

    Their sum bounds what such a pass holds at once, but for what is computed between the layers: about half of it is
    held at a time, so that there is room for that.
    """

    def __init__(self) -> None:
        self.of_layer: dict[nn.Module, int] = {}

    def see(self, layer: nn.Module, _: Any, output: Any) -> None:
        """Note the output of a layer: a hook after its forward pass."""
        if isinstance(output, Tensor):
            self.of_layer[layer] = max(self.of_layer.get(layer, 0), output.numel() * output.element_size())

    def batch_size(self, seen: int, most: int) -> int:
        """Choose how many examples to compute at once, at most ``most``, after a batch of ``seen`` examples."""
        of_one = sum(self.of_layer.values()) / seen
        return max(1, min(most, int(ROOM / max(of_one, 1))))


@contextmanager
def watched(model: nn.Module) -> Iterator[Activations]:
    """Watch the outputs of a model's layers inside the context."""
    found = Activations()
    layers = [module for module in model.modules() if next(module.children(), None) is None]
    hooks = [layer.register_forward_hook(found.see) for layer in layers]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
