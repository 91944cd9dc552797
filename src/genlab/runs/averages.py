"""Averages of a run's weights that are put together from its snapshots: EDM2 (arXiv:2312.02696), section 3."""

from pathlib import Path

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.models.power_average import Snapshot, coefficients, gamma_of
from genlab.runs.checkpoints import read_checkpoint

FOLDER = "averages"  # within the folder of checkpoints


def averaged_weights(folder: Path, width: float) -> dict[str, Tensor]:
    """Put together the average of a width from all snapshots of a run, one of them in memory at a time.

    Args:
        folder: folder of the snapshots.
        width: width of the average, relative to the number of steps of the training.

    Raises:
        InputError: if there are no snapshots, or there is no average of this width.
    """
    paths = sorted(folder.glob("*.ckpt"))
    if not paths:
        raise InputError(
            f"weights={width:g}: {folder} has no snapshots of averages; train with callbacks.averages.every_images=..."
        )
    try:
        gamma = gamma_of(width)
    except ValueError as error:
        raise InputError(f"weights={width:g}: {error}") from error
    contents = [{k: v for k, v in read_checkpoint(path).items() if k != "state_dict"} for path in paths]
    kept = [Snapshot(content["steps"], one) for content in contents for one in content["gammas"]]
    factors = iter(coefficients(kept, Snapshot(contents[-1]["steps"], gamma)).tolist())
    total: dict[str, Tensor] = {}
    for path, content in zip(paths, contents, strict=True):
        state = read_checkpoint(path)["state_dict"]
        for i in range(len(content["gammas"])):
            factor = next(factors)
            for name, value in state.items():
                if name.startswith(f"{i}."):
                    own = name.partition(".")[2]
                    total[own] = total.get(own, torch.zeros_like(value, dtype=torch.float64)) + factor * value.double()
    others = {name.partition(".")[2]: value for name, value in state.items() if name.startswith("others.")}
    return {name: value.float() for name, value in total.items()} | others
