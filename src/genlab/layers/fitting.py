"""Initialization of invertible normalizations from the next batch that they are given."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol


class Fitted(Protocol):
    """A layer that initializes itself from what it is given while ``fitting`` is True, and then passes it on."""

    fitting: bool


@contextmanager
def fitted(layers: Sequence[Fitted]) -> Iterator[None]:
    """Let layers initialize themselves from what they are given within the context.

    Args:
        layers: layers of one model.
    """
    try:
        for layer in layers:
            layer.fitting = True
        yield
    finally:
        for layer in layers:
            layer.fitting = False
