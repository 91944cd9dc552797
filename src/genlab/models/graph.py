"""A part of a model as a function of tensors alone, for runtimes that know neither Python nor PyTorch (ONNX)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn


class Method(nn.Module):
    """A method of a model as a module of its own, which :func:`torch.export.export` can trace.

    Args:
        model: model.
        name: name of the method, whose arguments and results are tensors.
    """

    def __init__(self, model: nn.Module, name: str) -> None:
        super().__init__()
        self.model, self.name = model, name

    def forward(self, *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Call the method with the inputs in their order."""
        found: Tensor | tuple[Tensor, ...] = getattr(self.model, self.name)(*inputs)
        return found


@dataclass(frozen=True)
class Graph:
    """A function of a model's weights and of tensors, of which the first dimension counts examples.

    Attributes:
        module: module that computes it.
        inputs: typical inputs by name, in the order of the module's arguments, ``(B, ...)``.
        outputs: names of the results.
        about: what goes in and what comes out, in a sentence for the user of the function.
        lengths: names of the second dimension of inputs in which it may have any size, by the input's name.
    """

    module: nn.Module
    inputs: Mapping[str, Tensor]
    outputs: Sequence[str]
    about: str
    lengths: Mapping[str, str] = field(default_factory=dict)


def of_method(
    model: nn.Module,
    method: str,
    inputs: Mapping[str, Tensor],
    outputs: Sequence[str],
    about: str,
    num_classes: int | None,
    lengths: Mapping[str, str] | None = None,
) -> Graph:
    """Give a model's method as a graph; a class-conditional one takes the classes ``y`` as its last input.

    Args:
        model: model.
        method: name of the method.
        inputs: typical inputs by name, without the classes, ``(B, ...)``.
        outputs: names of the results.
        about: what goes in and what comes out, in a sentence.
        num_classes: number of classes; None for a model without classes.
        lengths: names of second dimensions of any size, by the input's name.
    """
    given = dict(inputs)
    if num_classes is not None:
        num = len(next(iter(given.values())))
        given["y"] = torch.arange(num) % num_classes
        about = f"{about}; y: int64 classes (B,), 0 to {num_classes - 1}"
    return Graph(Method(model, method), given, tuple(outputs), about, dict(lengths or {}))


def typical(*shape: int) -> Tensor:
    """Draw standard normal numbers as a typical input, always the same ones."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))
