"""Choices that the jobs of a sweep share: the first job of a kind measures, and the others take what it chose."""

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from genlab.machine.files import write_atomically
from genlab.training.parts import Parts

try:
    import fcntl
except ImportError:  # not on Windows: there, two jobs that begin together both measure
    fcntl = None  # type: ignore[assignment]

FOLDER = ".tuned"


def kind_of(config: Mapping[str, Any], parts: Parts, device: torch.device, free: Iterable[str]) -> str:
    """Name what the measured step of a job depends on: jobs of one name take the same choice.

    Args:
        config: config of the job, as plain values.
        parts: parts built from it.
        device: device that the job trains on.
        free: keys of the trainer that may be chosen.
    """
    trainer = {key: value for key, value in config["trainer"].items() if key != "devices"}
    kind = {
        "model": config["model"],
        "data": [config["dataset"].get("_target_"), parts.data.shape, parts.data.batch_size, parts.data.sizes["train"]],
        "training": config["training"],
        "budget": config.get("budget"),
        "trainer": trainer,
        "free": sorted(free),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }
    return hashlib.sha256(json.dumps(kind, sort_keys=True, default=str).encode()).hexdigest()[:16]


def shared(
    sweep: Path, kind: str, patience: float, make: Callable[[], dict[str, Any] | None]
) -> tuple[dict[str, Any] | None, bool]:
    """Give the choice that a job of this kind has made; if there is none, make it and keep it for the others.

    While another job makes it, this one waits, but no longer than a measurement may take.

    Args:
        sweep: folder of the sweep.
        kind: name of the kind, from :func:`kind_of`.
        patience: seconds to wait at most.
        make: function that makes the choice, as plain values; None if there is nothing to keep.

    Returns:
        The choice, and whether another job made it.
    """
    folder = sweep / FOLDER
    folder.mkdir(exist_ok=True)
    path = folder / f"{kind}.json"
    with _turn(folder / f"{kind}.lock", patience):
        if (found := _read(path)) is not None:
            return found, True
        made = make()
        if made is not None:
            write_atomically(path, json.dumps(made, indent=1) + "\n")
        return made, False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("chosen"), dict) else None


@contextmanager
def _turn(path: Path, patience: float) -> Iterator[None]:
    """Hold a lock inside the context, or go on without it when it could not be had in some seconds."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
    until = time.monotonic() + patience
    try:
        while fcntl is not None and time.monotonic() < until:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(0.1)
            except OSError:  # a file system without locks
                break
            else:
                break
        yield
    finally:
        os.close(descriptor)  # which also unlocks
