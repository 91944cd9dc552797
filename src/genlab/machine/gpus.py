"""The GPUs of this machine, of which each process of a sweep takes one for itself."""

import fcntl
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import IO

from genlab.errors import InputError

_mine: tuple[str, IO[str]] | None = None


def visible() -> list[str]:
    """As ``CUDA_VISIBLE_DEVICES`` names them, or else all.

    Raises:
        InputError: where there are none.
    """
    if "CUDA_VISIBLE_DEVICES" in os.environ:
        found = [name.strip() for name in os.environ["CUDA_VISIBLE_DEVICES"].split(",") if name.strip()]
    else:
        import torch

        found = [str(index) for index in range(torch.cuda.device_count())]
    if not found:
        raise InputError("hydra/launcher=gpus: this machine has no CUDA GPU, or CUDA_VISIBLE_DEVICES hides it")
    return found


def claim() -> str:
    """The GPU of this process: one that no other process has claimed, waited for, and kept until the process ends.

    Jobs end in any order, so that their numbers cannot say which GPU is free; the system releases a file's lock
    however its process ends.
    """
    global _mine
    if _mine is not None:
        return _mine[0]
    folder = Path(tempfile.gettempdir(), f"genlab-gpus-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    said = False
    while True:
        for name in visible():
            file = open(folder / f"{name}.lock", "w")  # noqa: SIM115 (open as long as the process lives)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.close()
                continue
            _mine = name, file
            return name
        if not said:
            print(f"genlab: waiting for a GPU: other jobs have {', '.join(visible())}", file=sys.stderr)
            said = True
        time.sleep(2)
