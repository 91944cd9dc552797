"""The catalogue of known figures: those declared by the measures, and those logged during training."""

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache

from genlab.metrics import measures
from genlab.metrics.figure import Figure, short
from genlab.metrics.measures.base import Measure

# Logged during training. Adversarial losses have no direction of improvement.
TRAINING = {
    "loss": Figure("loss", "min"),
    "train/loss": Figure("loss", "min", curve=5),
    "train/generator_loss": Figure("generator_loss", curve=6),
    "train/discriminator_loss": Figure("discriminator_loss", curve=7),
}


@cache
def catalogue() -> Mapping[str, Figure]:
    """Collect the declarations of all figures, by name: those of every measure and those logged during training."""
    found = dict(TRAINING)
    for module in pkgutil.iter_modules(measures.__path__, f"{measures.__name__}."):
        for one in vars(importlib.import_module(module.name)).values():
            if isinstance(one, type) and issubclass(one, Measure):
                found |= one.figures
    return found


def figure(name: str, declared: Mapping[str, Figure] | None = None) -> Figure:
    """Look up the declaration of a figure; an unknown figure gets a declaration with its name as label.

    Args:
        name: name of the figure, with or without a split: ``test/fid``, ``val/fid`` or ``fid``.
        declared: declarations stored in a run folder, by short name; used for figures missing from the catalogue.
    """
    known = catalogue()
    return known.get(name) or known.get(short(name)) or (declared or {}).get(short(name)) or Figure(short(name))
