"""Computations over many examples, a part at a time: their memory does not grow with the number of examples."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

PART = 250  # examples in memory at once; as many as samples are drawn at once


def in_parts(compute: Callable[[Tensor, Tensor | None], Sequence[Tensor]], x: Tensor, y: Tensor | None) -> list[Tensor]:
    """Apply a function to parts of a batch and join each of its outputs along the first dimension.

    Args:
        compute: function of examples and their classes that returns tensors with a row per example.
        x: examples ``(N, *shape)``.
        y: their classes, int64 ``(N,)``; None without classes.
    """
    parts = [compute(x[i : i + PART], None if y is None else y[i : i + PART]) for i in range(0, len(x), PART)]
    return [torch.cat(outputs) for outputs in zip(*parts, strict=True)]
