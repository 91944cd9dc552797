"""Checkpoint files: written whole or not at all, protected by a checksum, and safe to open because no code is run."""

import hashlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import CheckpointIO

from genlab.errors import InputError
from genlab.machine.files import check_writable, discard, naming, new_beside
from genlab.runs.folder import CONFIG

# Appended to torch's file, together with the file's sha256; torch ignores what follows its data.
MAGIC = b"genlab:1"
_SEAL = len(MAGIC) + hashlib.sha256().digest_size
_BLOCK = 2**22
_TAIL = 4096  # bytes at the end in which a displaced checksum is looked for

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
        new = new_beside(path)
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
    """Read a checkpoint and verify its checksum.

    A file without one, such as another program's, is read unverified, and a line on stderr says so; but not in a run
    folder, whose checkpoints genlab wrote with one.

    Args:
        path: path of the file.
        map_location: device to put the tensors on.

    Raises:
        InputError: if the file is missing, is damaged, or would run code.
    """
    try:
        is_sealed = _check_seal(path)
        checkpoint = torch.load(path, map_location=map_location, weights_only=True)
        if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
            raise ValueError("it holds no weights")
    except Exception as error:  # torch raises half a dozen kinds for a damaged file
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as a checkpoint ({reason})") from error
    if not is_sealed:
        print(f"genlab: {path} has no checksum, so nothing tells whether it is as it was written", file=sys.stderr)
    return checkpoint


def data_of(checkpoint: Mapping[str, Any]) -> dict[str, Any]:
    """Give the identity of the data that a checkpoint's weights were trained on; empty if it does not say."""
    found = checkpoint.get("data")
    return dict(found) if isinstance(found, Mapping) else {}


def _check_seal(path: Path) -> bool:
    """Verify a file's checksum, and tell whether it has one.

    Raises:
        ValueError: if the checksum does not hold, is damaged, or is missing though the file lies in a run folder.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(max(0, size - _TAIL))
        tail = file.read()
    seal = tail[-_SEAL:]
    if seal.startswith(MAGIC):
        if _digest(path, size - _SEAL) != seal[len(MAGIC) :]:
            raise ValueError("its checksum does not hold")
        return True
    if any(_resembles(tail[at : at + len(MAGIC)]) for at in range(len(tail))):
        raise ValueError("its checksum is damaged: bytes at its end were changed, added or lost")
    if path.parent.name == "checkpoints" and (path.parent.parent / CONFIG).is_file():
        raise ValueError("it has no checksum; outside of a run folder, checkpoint=FILE opens it unverified")
    return False


def _resembles(word: bytes) -> bool:
    """Tell whether bytes are nearly those that a checksum begins with."""
    return sum(a == b for a, b in zip(word, MAGIC, strict=False)) >= len(MAGIC) - 2


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
