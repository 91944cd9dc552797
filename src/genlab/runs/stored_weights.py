"""A model's weights as a run folder stores them: in checkpoints, in snapshots of averages, or in an exported file."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from torch import Tensor, uint8

from genlab.errors import InputError
from genlab.models.base import GenerativeModel
from genlab.models.weights import AVERAGED, weights_of
from genlab.runs.averages import FOLDER, averaged_weights
from genlab.runs.checkpoints import data_of, read_checkpoint
from genlab.runs.exported import facts
from genlab.runs.folder import EXPORTED, RunFolder

Weights = Literal["auto", "ema", "raw"] | float


@dataclass(frozen=True)
class Stored:
    """Weights of a model, read from a file.

    Attributes:
        weights: weights and buffers by their names in the model.
        kind: ``"ema"``, ``"raw"``, or ``"average of width ..."``; of an exported folder,
            what was exported.
        trained_on: identity of the data that they were trained on; empty if the file does not say.
        path: path of the file.
    """

    weights: dict[str, Tensor]
    kind: str
    trained_on: dict[str, Any]
    path: Path


def weights_file(folder: RunFolder, checkpoint: str) -> Path:
    """Give the path of the file that holds a run's weights.

    Args:
        folder: folder of the run.
        checkpoint: ``"best"``, ``"last"`` or the path of a file.
    """
    if checkpoint not in ("best", "last"):
        return Path(checkpoint)
    path = folder.checkpoints / f"{checkpoint}.ckpt"
    exported = folder.path / EXPORTED
    return exported if exported.is_file() and not path.is_file() else path


def stored_weights(path: Path, kind: Weights, model: GenerativeModel) -> Stored:
    """Read weights for a model; no code is run, whoever wrote the file.

    Args:
        path: path of the file, such as :func:`weights_file` gives it.
        kind: kind of weights that are read, see :func:`genlab.runs.loading.load`.
        model: model that they are for, which says what is not averaged.

    Raises:
        InputError: if there is no such file, it is damaged, or it has no weights of this kind.
    """
    if not path.is_file():
        raise InputError(f"there is no checkpoint {path}")
    if path.suffix == ".safetensors":
        return Stored(
            _exported(path, kind), str(facts(path.parent).get("weights", "exported")), data_of_file(path), path
        )
    checkpoint = read_checkpoint(path)
    state, trained_on = checkpoint["state_dict"], data_of(checkpoint)
    if isinstance(kind, float):
        averages = path.parent / FOLDER
        weights = weights_of(model, state, "raw") | averaged_weights(averages, kind)
        return Stored(weights, f"average of width {kind:g}", trained_on, averages)
    has_ema = any(name.startswith(AVERAGED) for name in state)
    chosen = ("ema" if has_ema else "raw") if kind == "auto" else kind
    weights = weights_of(model, state, chosen)
    if not weights:
        raise InputError(f"{path} has no {chosen} weights (training.ema_decay was not set)")
    return Stored(weights, chosen, trained_on, path)


def data_of_file(path: Path) -> dict[str, Any]:
    """Read the identity of the data that a file's weights were trained on; empty if it does not say.

    Args:
        path: path of a checkpoint, or of exported weights.

    Raises:
        InputError: if the file is damaged.
    """
    return data_of(facts(path.parent) if path.suffix == ".safetensors" else read_checkpoint(path))


def _exported(path: Path, kind: Weights) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if kind != "auto":
        raise InputError(f"weights={kind}: {path} is exported, and has one kind of weights: leave weights out")
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path} cannot be read as weights ({str(error).splitlines()[0]})") from error


def weights_sha256(weights: Mapping[str, Tensor]) -> str:
    """Compute a fingerprint of weights: of their names, types, shapes and values, whatever file they are in.

    Args:
        weights: weights by name.
    """
    digest = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {list(value.shape)}\n".encode())
        digest.update(value.flatten().view(uint8).numpy().tobytes() if value.numel() else b"")
    return digest.hexdigest()
