"""Weights of another run as the start of a training: what fits is taken over, and the rest is listed."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from genlab.errors import InputError


@dataclass(frozen=True)
class Match:
    """How another run's weights fitted a model.

    Attributes:
        source: path of the file that they were read from.
        kind: kind of weights, such as ``"ema"``.
        sha256: fingerprint of all of them.
        matched: names of the weights that the model took over.
        missing: names of the model's weights that are not among them, and stay as they were initialized.
        unexpected: names among them that the model does not have.
        other_shape: shape in the model and shape in the file of the weights whose shapes differ, by name. They, too,
            stay as they were initialized.
        share: share of the model's parameters that were taken over, from 0 to 1.
    """

    source: str
    kind: str
    sha256: str
    matched: tuple[str, ...]
    missing: tuple[str, ...]
    unexpected: tuple[str, ...]
    other_shape: Mapping[str, tuple[list[int], list[int]]]
    share: float

    def to_json(self) -> dict[str, Any]:
        """Give the content of the run's ``init.json``."""
        return asdict(self)

    @property
    def line(self) -> str:
        """Say in a line how much was taken over."""
        own = [*self.matched, *self.missing, *self.other_shape]
        how_many = f"{len(self.matched)} of {len(own)} weights, {self.share:.1%} of the parameters"
        return f"{how_many} ({self.kind}, {self.source})"

    def rows(self) -> list[tuple[str, str, str]]:
        """List what did not match: the kind of difference, the name, and the shapes where they differ."""
        return [
            *(("other shape", name, f"{here} here, {there} there") for name, (here, there) in self.other_shape.items()),
            *(("missing", name, "stays as initialized") for name in self.missing),
            *(("unexpected", name, "left out") for name in self.unexpected),
        ]


@torch.no_grad()
def take_over(model: nn.Module, weights: Mapping[str, Tensor], source: str, kind: str, sha256: str) -> Match:
    """Copy all weights whose names and shapes are those of a model into it.

    Args:
        model: model, initialized.
        weights: weights of another model, by name.
        source: path of the file that they were read from.
        kind: kind of weights.
        sha256: fingerprint of the weights.

    Raises:
        InputError: if no parameter fits, or a value is NaN or infinite. The model is unchanged.
    """
    own = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    fitting = {name: weights[name] for name in own if name in weights and weights[name].shape == own[name].shape}
    broken = [name for name, value in fitting.items() if value.is_floating_point() and not value.isfinite().all()]
    if broken:
        raise InputError(f"init: {source} has weights that are NaN or infinite, such as {broken[0]}")
    parameters = {name: parameter.numel() for name, parameter in model.named_parameters()}
    taken = sum(size for name, size in parameters.items() if name in fitting)
    match = Match(
        source=source,
        kind=kind,
        sha256=sha256,
        matched=tuple(fitting),
        missing=tuple(name for name in own if name not in weights),
        unexpected=tuple(name for name in weights if name not in own),
        other_shape={
            name: (list(own[name].shape), list(weights[name].shape))
            for name in own
            if name in weights and name not in fitting
        },
        share=taken / max(1, sum(parameters.values())),
    )
    if not taken:
        example = next(iter(parameters), "none")
        raise InputError(
            f"init: {source} shares no weight with this model, which has {example}, and {source} has "
            f"{next(iter(weights), 'none')}: give a run of the same model"
        )
    model.load_state_dict(fitting, strict=False)
    return match
