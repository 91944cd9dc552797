"""Functions run by several processes at once that form one group, as the processes of a run do."""

import os
import signal
import time
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

LIMIT = 60.0  # seconds


def together(world_size: int, function: Callable[[int], Any], folder: Path) -> list[Any]:
    """What ``function(rank)`` gives in each of the processes, which are forks of this one.

    Args:
        world_size: number of processes.
        function: what each of them calls when all have met; it gives tensors, numbers, or lists and dicts of them.
        folder: where they meet and leave their results.

    Raises:
        AssertionError: if one of them fails, or has not ended after a minute.
    """
    folder.mkdir(parents=True, exist_ok=True)
    children = [_forked(function, rank, world_size, folder) for rank in range(world_size)]
    failed, until = [], time.monotonic() + LIMIT
    for rank, pid in enumerate(children):
        status = 0
        while os.waitpid(pid, os.WNOHANG) == (0, 0):
            if time.monotonic() > until:
                os.kill(pid, signal.SIGKILL)
                _, status = os.waitpid(pid, 0)
                break
            time.sleep(0.005)
        if status or not (folder / f"{rank}.pt").is_file():
            failed.append(rank)
            until = min(until, time.monotonic() + 1)  # the others may wait for it for ever
    assert not failed, f"ranks {failed} failed"
    return [torch.load(folder / f"{rank}.pt") for rank in range(world_size)]


def _forked(function: Callable[[int], Any], rank: int, world_size: int, folder: Path) -> int:
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        meeting = dist.FileStore(str(folder / "meeting"), world_size)
        dist.init_process_group(
            "gloo", store=meeting, rank=rank, world_size=world_size, timeout=timedelta(seconds=LIMIT)
        )
        result = function(rank)
        dist.barrier()
        torch.save(result, folder / f"{rank}.new")
        os.replace(folder / f"{rank}.new", folder / f"{rank}.pt")
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(code)
