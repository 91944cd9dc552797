"""The names under which the checkpoint of a training holds a model's weights."""

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from genlab.models.base import GenerativeModel

# Attributes of a TrainingModule: its model, and the copy of it in its ExponentialMovingAverage.
RAW = "model."
AVERAGED = "ema.model."


def weights_of(model: GenerativeModel, state: Mapping[str, Tensor], kind: Literal["raw", "ema"]) -> dict[str, Tensor]:
    """Take a model's weights out of the state of its training.

    Args:
        model: model that the weights are for.
        state: ``state_dict`` of a checkpoint.
        kind: ``"raw"`` for the weights that were trained; ``"ema"`` for their averages, with the trained weights of
            ``model.training_only``, which are not averaged.

    Returns:
        The weights by the model's own names; empty if the training kept no average and ``kind`` is ``"ema"``.
    """
    raw = {name.removeprefix(RAW): value for name, value in state.items() if name.startswith(RAW)}
    if kind == "raw":
        return raw
    shared = tuple(f"{name}." for name in model.training_only)
    averaged = {name.removeprefix(AVERAGED): value for name, value in state.items() if name.startswith(AVERAGED)}
    if not averaged:
        return {}
    # Checkpoints of earlier versions hold averages of the shared submodules, too.
    averaged = {name: value for name, value in averaged.items() if not name.startswith(shared)}
    return averaged | {name: value for name, value in raw.items() if name.startswith(shared)}
