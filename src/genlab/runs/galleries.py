"""Ways to look at what a model has learned, each as rows of images."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.metrics.measure import Advance, draw, evaluating
from genlab.models.base import AdversarialModel, GenerativeModel, LatentModel
from genlab.runs.latents import slerp

Decode = Callable[[Tensor], Tensor] | None  # what is done to samples before they are looked at


def between(model: GenerativeModel, rows: int, columns: int, *, seed: int, y: Tensor | None = None) -> Tensor:
    """On the great circle from one random latent to another in each row, ``(rows * columns, C, H, W)``.

    A model that encodes starts from the latents of two of its samples. A row is of one class.

    Raises:
        InputError: the model has no latents.
    """
    if not isinstance(model, AdversarialModel | LatentModel):
        raise InputError("mode=interpolate: this run's model has no latents to go between")
    with evaluating(model):
        y = model.classes(rows, y, generators(seed, range(rows)))
        if isinstance(model, AdversarialModel):
            z = model.draw_latents(2 * rows, generators(seed, range(2 * rows)))
        else:
            both = None if y is None else y.repeat(2)
            x = model.sample(2 * rows, both, generator=generators(seed, range(2 * rows)))
            with torch.random.fork_rng([model.device] if model.device.type == "cuda" else []):
                torch.manual_seed(seed)  # of an encoder's noise
                z = model.encode(x, both)
        path = slerp(z[:rows], z[rows:], columns).flatten(0, 1)
        return model.decode(path, None if y is None else y.repeat_interleave(columns)).float().cpu()


def tempered(
    model: GenerativeModel,
    rows: int,
    temperatures: Sequence[float],
    *,
    seed: int,
    y: Tensor | None = None,
    decode: Decode = None,
    advance: Advance,
) -> Tensor:
    """One sample a row, drawn at every temperature, ``(rows * len(temperatures), C, H, W)``."""
    columns = [
        draw(model, rows, seed=seed, y=y, sampling=sampling, decode=decode, advance=advance)
        for sampling in (replace(model.sampling, temperature=temperature) for temperature in temperatures)
    ]
    return torch.stack(columns, 1).flatten(0, 1)


def by_class(
    model: GenerativeModel,
    classes: Sequence[int],
    columns: int,
    *,
    seed: int,
    decode: Decode = None,
    advance: Advance,
) -> Tensor:
    """A class in each row, one noise in each column, ``(len(classes) * columns, C, H, W)``."""
    options: dict[str, Any] = {"seed": seed, "decode": decode, "advance": advance}
    rows = [draw(model, columns, y=torch.full((columns,), k), **options) for k in classes]
    return torch.cat(rows)
