"""Assignment of this machine's GPUs to the processes of a sweep, one for each."""

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
    """List the GPUs in ``CUDA_VISIBLE_DEVICES``, or all GPUs if that is not set.

    Raises:
        InputError: if there are none.
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
    """Claim a GPU that no other process has claimed, wait for one if necessary, and keep it until this process ends.

    Jobs end in any order, so a job's number cannot determine which GPU is free. A GPU is therefore claimed by locking a
    file; the operating system releases the lock, however the process ends.
    """
    global _mine
    if _mine is not None:
        return _mine[0]
    folder = Path(tempfile.gettempdir(), f"genlab-gpus-{os.getuid()}")
    folder.mkdir(exist_ok=True)
    said = False
    while True:
        for name in visible():
            file = open(folder / f"{name}.lock", "w", encoding="utf-8")  # noqa: SIM115 (stays open until the process ends)
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
