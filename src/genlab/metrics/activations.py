"""Memory that a network's activations take for one sample, by which the samples of a batch are counted."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

ROOM = 2**30  # bytes that the activations of a batch of samples may take
FEW = 16  # samples that show how much one takes

_known: WeakKeyDictionary[nn.Module, dict[str, float]] = WeakKeyDictionary()


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

    @property
    def total(self) -> int:
        """Sum over the layers, in bytes."""
        return sum(self.of_layer.values())


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


def samples_at_once(model: nn.Module, settings: str, most: int, draw_few: Callable[[int], object]) -> int:
    """Choose how many samples to draw at once; what one takes is found once for a model and its settings.

    Args:
        model: model to sample from.
        settings: name of the sampling settings, on which the memory depends.
        most: upper limit.
        draw_few: function that draws a number of samples, which are thrown away.
    """
    known = _known.setdefault(model, {})
    if settings not in known:
        with watched(model) as activations:
            draw_few(FEW)
        known[settings] = activations.total / FEW
    return max(1, min(most, int(ROOM / max(known[settings], 1.0))))
