"""Continuous latents, such as those of a VAE: real numbers that are decoded before they are shown."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from genlab.errors import InputError
from genlab.modalities.modality import Modality, Rendering


class Latents(Modality):
    """Modality of latents, vectors ``(D,)`` or grids ``(C, h, w)``, as float."""

    name = "latents"
    noun = "latents"

    def check(self, shape: Sequence[int]) -> None:
        if not shape or min(shape) < 1:
            raise InputError(f"shape={list(shape)}: latents have positive sizes")

    def render(self, samples: Tensor, real: Tensor | None = None, **_: Any) -> Rendering:
        raise NotImplementedError("latents are decoded before they are shown")
