"""Checkpoint files: written whole or not at all, protected by a checksum, and safe to open because no code is run."""

import hashlib
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from genlab.errors import InputError
from genlab.machine.files import check_writable, discard, naming

# Appended to torch's file, together with the file's sha256; torch ignores what follows its data.
MAGIC = b"genlab:1"
_SEAL = len(MAGIC) + hashlib.sha256().digest_size
_BLOCK = 2**22

NEWEST, BEFORE = "last.ckpt", "previous.ckpt"


def write_checkpoint(checkpoint: dict[str, Any], path: Path) -> None:
    """Write a checkpoint atomically: after a kill, there is either the old file or the new one.

    If ``last.ckpt`` is written, the old ``last.ckpt`` becomes ``previous.ckpt``.

    Args:
        checkpoint: content of the checkpoint.
        path: path of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        new = Path(name)
        try:
            _save(checkpoint, new)
            digest = _digest(new, new.stat().st_size)
            with new.open("ab") as file:
                file.write(MAGIC + digest)
                file.flush()
                os.fsync(file.fileno())
            if path.name == NEWEST and path.is_file():
                link = path.with_name(f".{BEFORE}.link")
                link.unlink(missing_ok=True)
                os.link(path, link)  # and not a rename, so that at every moment one of the two files exists
                os.replace(link, path.with_name(BEFORE))
            os.replace(new, path)
        except BaseException:
            discard(new)
            raise


def _save(checkpoint: dict[str, Any], path: Path) -> None:
    """Save with torch; what the disk refuses is raised as the system's error, of which torch tells only that it was."""
    try:
        torch.save(checkpoint, path)
    except RuntimeError as error:
        if "PytorchStreamWriter" in str(error) or "inline_container" in str(error):
            check_writable(path)
        raise


def read_checkpoint(path: Path, map_location: Any = "cpu") -> dict[str, Any]:
    """Read a checkpoint and verify its checksum; a file without one, such as another program's, is read unverified.

    Args:
        path: path of the file.
        map_location: device to put the tensors on.

    Raises:
        InputError: if the file is missing, is damaged, or would run code.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            file.seek(max(0, size - _SEAL))
            seal = file.read()
        if seal.startswith(MAGIC) and _digest(path, size - _SEAL) != seal[len(MAGIC) :]:
            raise ValueError("its checksum does not hold")
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise ValueError("it holds no weights")
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as a checkpoint ({reason})") from error
    return checkpoint


def _digest(path: Path, size: int) -> bytes:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while size > 0 and (block := file.read(min(size, _BLOCK))):
            digest.update(block)
            size -= len(block)
    return digest.digest()


class SealedCheckpoints(CheckpointIO):
    """A Lightning plugin that writes and reads such checkpoint files."""

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None) -> None:
        write_checkpoint(checkpoint, Path(path))

    def load_checkpoint(self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None) -> dict[str, Any]:
        return read_checkpoint(Path(path), map_location or "cpu")

    def remove_checkpoint(self, path: Any) -> None:
        Path(path).unlink(missing_ok=True)
