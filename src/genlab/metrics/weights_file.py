"""Files of published weights: checked by their SHA-256 before they are opened, and never downloaded."""

import hashlib
import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from genlab.errors import InputError


def read_weights(path: str | None, sha256: str | None, wanted: str) -> tuple[dict[str, Tensor], str]:
    """Read a network's parameters from a file on disk.

    Read are safetensors, files of ``torch.save`` that hold nothing but tensors, and TorchScript archives. An archive
    holds code besides, and is opened only if its hash is known.

    Args:
        path: path of the file; None if the user has named none.
        sha256: expected SHA-256 of the file; None takes any file, except for archives.
        wanted: name of the network, and of the file that is published with its weights, for error messages.

    Returns:
        Parameters by name, in float32, and the SHA-256 of the file.

    Raises:
        InputError: if the file was not named, is missing, is damaged, or is another one.
    """
    if not path:
        raise InputError(
            f"the weights of {wanted}: put the file on this machine, and name it as metrics.features.weights="
        )
    file = Path(path).expanduser()
    if not file.is_file():
        raise InputError(f"metrics.features.weights={path}: there is no such file")
    with file.open("rb") as content:
        found = hashlib.file_digest(content, "sha256").hexdigest()
    if sha256 is not None and found != sha256.lower():
        raise InputError(
            f"{path} is not the file it should be: its sha256 is {found}, not {sha256} ({wanted}); if you mean it, "
            f"metrics.features.sha256={found}"
        )
    try:
        parameters = _parameters(file, known=sha256 is not None)
    except (SafetensorError, RuntimeError, OSError, EOFError, KeyError, ValueError, pickle.UnpicklingError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as a file of weights ({reason})") from error
    return {name: value.float() if value.is_floating_point() else value for name, value in parameters.items()}, found


def _parameters(file: Path, known: bool) -> dict[str, Tensor]:
    if file.suffix == ".safetensors":
        return load_file(file)
    if _is_archive(file):
        if not known:
            raise InputError(
                f"{file} holds code: give its hash as metrics.features.sha256=, so that no other is opened"
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # TorchScript is deprecated, and such files remain
            return dict(torch.jit.load(str(file), map_location="cpu").state_dict())
    content = torch.load(file, map_location="cpu", weights_only=True)
    content = content.get("state_dict", content) if isinstance(content, dict) else content
    if not isinstance(content, dict) or not all(isinstance(value, Tensor) for value in content.values()):
        raise ValueError(f"it holds {type(content).__name__} in place of named tensors")
    return content


def _is_archive(file: Path) -> bool:
    """Tell whether a file is a TorchScript archive."""
    if not zipfile.is_zipfile(file):
        return False
    with zipfile.ZipFile(file) as archive:
        return any(name.endswith("/constants.pkl") for name in archive.namelist())
