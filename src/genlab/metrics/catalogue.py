"""All figures that are known: those that the measures declare, and those that training logs."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from genlab.metrics import measures
from genlab.metrics.figure import Figure, short
from genlab.metrics.measures.base import Measure

# Logged while training; the losses of a game have no direction.
TRAINING = {
    "loss": Figure("loss", "min"),
    "train/loss": Figure("loss", "min", curve=5),
    "train/generator_loss": Figure("generator_loss", curve=6),
    "train/discriminator_loss": Figure("discriminator_loss", curve=7),
}


@cache
def catalogue() -> Mapping[str, Figure]:
    """Declarations of the figures of every class in :mod:`genlab.metrics.measures`, by name, and of training."""
    found = dict(TRAINING)
    for module in pkgutil.iter_modules(measures.__path__, f"{measures.__name__}."):
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type) and issubclass(one, Measure):
                found |= one.figures
    return found


def figure(name: str, declared: Mapping[str, Figure] | None = None) -> Figure:
    """What is known of ``test/fid``, ``val/fid`` or ``fid``.

    Args:
        declared: declarations of figures that the catalogue lacks, by short name, as run folders hold them.
    """
    known = catalogue()
    return known.get(name) or known.get(short(name)) or (declared or {}).get(short(name)) or Figure(short(name))
