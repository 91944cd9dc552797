"""Text: windows of tokens, decoded before they are shown."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.modalities.modality import Modality, Rendering

RULE = "\n" + 80 * "-" + "\n"


@dataclass(frozen=True)
class Page(Rendering):
    """Rendering of texts one after the other, separated by lines of dashes."""

    def save(self, stem: Path) -> Path:
        path = stem.with_name(f"{stem.name}.txt")
        save_texts(self.texts or (), path)
        return path


class Text(Modality):
    """Modality of windows of tokens ``(L,)``, int64.

    Args:
        decode: function from tokens ``(N, T)`` to N texts.
    """

    name = "tokens"
    is_numeric = False
    noun = "texts"
    counted = "tokens"
    task = "text-generation"
    is_measured = False

    def __init__(self, decode: Callable[[Tensor], list[str]]) -> None:
        self.decode = decode

    def counted_in(self, shape: Sequence[int]) -> int:
        return math.prod(shape)

    def check(self, shape: Sequence[int]) -> None:
        if len(shape) != 1 or shape[0] < 1:
            raise InputError(f"shape={list(shape)}; give [L], the tokens of a window")

    def render(self, samples: Tensor, real: Tensor | None = None, **_: Any) -> Rendering:
        return Page(texts=self.decode(samples))

    def num_watched(self, num: int) -> int:
        return min(8, num)

    def to_storage(self, samples: Tensor) -> None:
        return None


def save_texts(texts: Sequence[str], path: Path) -> None:
    """Write texts one after the other to a file, separated by lines of dashes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, RULE.join(texts) + "\n")
