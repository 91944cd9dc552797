"""Settings of the process that a run trains in."""

import ctypes
import logging
import os
import platform
import signal
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

# Names the run folder whose processes torchrun starts for genlab. Ranks count in these processes only: Kubeflow,
# SageMaker and AzureML set RANK in every container, and srun sets SLURM_PROCID in each of several unrelated runs.
OF_RUN = "GENLAB_RUN"
RANKS = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "ROLE_RANK", "NODE_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "GROUP_WORLD_SIZE",
    "ROLE_WORLD_SIZE", "TORCHELASTIC_RUN_ID", "SLURM_PROCID", "SLURM_LOCALID", "SLURM_NTASKS", "SLURM_NPROCS",
    "SLURM_NTASKS_PER_NODE", "JSM_NAMESPACE_RANK", "JSM_NAMESPACE_LOCAL_RANK", "JSM_NAMESPACE_SIZE",
)  # fmt: skip

# Ctrl-C, and what schedulers send before they kill.
SIGNALS = [getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGUSR1", "SIGUSR2") if hasattr(signal, name)]

_LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"
# At least one of these is set where a command was started on several machines.
_OF_LAUNCHERS = ("GENLAB_RDZV", "SLURM_STEP_ID", "PET_NNODES", "OMPI_COMM_WORLD_RANK", "MASTER_ADDR")

_forgotten: dict[str, str] = {}


def place_in(run: Path) -> tuple[int, int]:
    """Give the rank of this process among the processes of a run, and their number: (0, 1) if it is the only one.

    Args:
        run: folder of the run.
    """
    if os.environ.get(OF_RUN) != str(run):
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def is_first() -> bool:
    """Tell whether this process is the first of its run, which writes and prints for all."""
    return OF_RUN not in os.environ or os.environ["RANK"] == "0"


def forget_ranks() -> None:
    """Take ranks out of the environment of a command, which is no process of a run that torchrun started for genlab.

    Libraries read them when they are imported.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and os.environ.get("WORLD_SIZE", "1") != "1":
        print(
            f"genlab: torchrun started this as process {os.environ.get('RANK')} of {os.environ['WORLD_SIZE']}, and it "
            "is a run of its own: genlab starts a run's processes itself, as many as trainer.devices says",
            file=sys.stderr,
        )
    _forgotten.clear()
    for name in (*RANKS, OF_RUN):
        if (value := os.environ.pop(name, None)) is not None:
            _forgotten[name] = value


def quiet_torch() -> None:
    """Silence torch's warnings about lost connections, a page each; to be called before torch is imported.

    A command that was started on several machines says in one line that another one is gone.
    """
    if _LOG_LEVEL not in os.environ and any(name in os.environ for name in _OF_LAUNCHERS):
        _forgotten[_LOG_LEVEL] = ""
        os.environ[_LOG_LEVEL] = "ERROR"


def for_processes() -> dict[str, str]:
    """Give the environment of the processes of a run, without ranks and without what this process set for itself."""
    left_out = {*RANKS, *([_LOG_LEVEL] if _LOG_LEVEL in _forgotten else [])}
    # PET_*: torchrun's options, as Kubeflow sets them
    return {k: v for k, v in os.environ.items() if k not in left_out and not k.startswith("PET_")}


def as_launched() -> dict[str, str]:
    """Give the environment that this process was started with, with the ranks that were taken out of it."""
    return {**_forgotten, **os.environ}


@contextmanager
def alone() -> Iterator[None]:
    """Hide ranks from libraries while a run trains that has this process only."""
    from pytorch_lightning.utilities import rank_zero

    of_lightning: Any = rank_zero.rank_zero_only
    hidden = {name: os.environ.pop(name) for name in RANKS if name in os.environ}
    before, of_lightning.rank = of_lightning.rank, 0
    try:
        yield
    finally:
        os.environ.update(hidden)
        of_lightning.rank = before


def end_with_parent() -> None:
    """Let the kernel kill this process when the one that started it dies, however it dies; on Linux only."""
    if sys.platform == "linux":
        PR_SET_PDEATHSIG = 1
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() == 1:  # it died before
            os.kill(os.getpid(), signal.SIGKILL)


def quiet_libraries() -> None:
    """Silence the tips and warnings of libraries, which would appear between genlab's summary and the progress bar."""
    for name in (
        "pytorch_lightning",
        # Listed separately, because Lightning resets the level of its parent when it is imported.
        "pytorch_lightning.accelerators.cuda",
        "pytorch_lightning.utilities.rank_zero",
        "lightning.pytorch",
        "lightning_fabric",
    ):
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.getLogger("asyncio").setLevel(logging.ERROR)  # W&B's connection, if its process dies; that is said once
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    warnings.filterwarnings("ignore", message=".*`srun` command is available.*")
    warnings.filterwarnings("ignore", message=".*will save all extracted features in buffer.*")


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors instead of returning it to the kernel at every step.

    On a CPU, the page faults of requesting it again cost a convolutional network up to a fifth of the time of a step.
    """
    if platform.libc_ver()[0] == "glibc":
        libc = ctypes.CDLL(None)
        M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4
        libc.mallopt(M_MMAP_MAX, 0)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
