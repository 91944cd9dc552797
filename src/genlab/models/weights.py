"""Extraction of a model's weights from a training checkpoint."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from genlab.models.base import GenerativeModel

# Prefixes of the model's weights in a TrainingModule: the model itself, and its copy in the ExponentialMovingAverage.
RAW = "model."
AVERAGED = "ema.model."


def weights_of(model: GenerativeModel, state: Mapping[str, Tensor], kind: Literal["raw", "ema"]) -> dict[str, Tensor]:
    """Extract a model's weights from the state of its training.

    Args:
        model: model that the weights are for.
        state: ``state_dict`` of a checkpoint.
        kind: ``"raw"`` for the trained weights; ``"ema"`` for their moving averages, together with the trained weights
            of the submodules in ``model.training_only``, which are not averaged.

    Returns:
        Weights by their names in the model; empty if ``kind`` is ``"ema"`` and the checkpoint has no averages.
    """
    raw = {name.removeprefix(RAW): value for name, value in state.items() if name.startswith(RAW)}
    if kind == "raw":
        return raw
    shared = tuple(f"{name}." for name in model.training_only)
    averaged = {name.removeprefix(AVERAGED): value for name, value in state.items() if name.startswith(AVERAGED)}
    if not averaged:
        return {}
    # Checkpoints from earlier versions also contain averages of these submodules.
    averaged = {name: value for name, value in averaged.items() if not name.startswith(shared)}
    return averaged | {name: value for name, value in raw.items() if name.startswith(shared)}


def sampled_weights(model: GenerativeModel) -> dict[str, Tensor]:
    """Give the weights and buffers of the parts of a model that sampling uses, by their names; not copies."""
    unused = tuple(f"{name}." for name in model.training_only)
    state = {name: value for name, value in model.state_dict().items() if isinstance(value, Tensor)}
    return {name: value for name, value in state.items() if not name.startswith(unused)}
