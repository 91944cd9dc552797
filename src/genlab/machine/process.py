"""Settings of the process that a run trains in."""

import ctypes
import logging
import os
import platform
import warnings


def rank() -> int:
    """Give the rank of this process among the processes of its run; 0 if it is the only one."""
    names = ("RANK", "SLURM_PROCID")
    return next((int(os.environ[name]) for name in names if name in os.environ), 0)


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
