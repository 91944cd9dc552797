"""What a job of a parallel sweep does beside its work: its output goes to a log file, and it tells how far it is."""

import os
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from hydra.core.utils import JobReturn, JobStatus
from omegaconf import DictConfig

from genlab.composition.explaining import explain, first_line
from genlab.launching.meeting import NODE
from genlab.launching.options import overrides_of
from genlab.launching.sweeps import LOGS
from genlab.machine.process import as_launched
from genlab.machine.told import begin_telling, end_telling

STATES = ".jobs"  # folder of what jobs tell, inside that of the sweep
OWN_LOGS = "submitit"  # SLURM's jobs have files of their output already

_in_turn: int | None = None  # the process in which jobs run one after the other
_kept: list[int] = []  # the standard output and error that this process began with


def leave_output() -> None:
    """Let jobs that run in this process, one after the other, print as those of a single run do."""
    global _in_turn
    _in_turn = os.getpid()


def log_of(folder: Path, job: int) -> Path:
    """Give the path of the log file of a job.

    Args:
        folder: folder of the sweep.
        job: number of the job.
    """
    return folder / LOGS / f"{job}.log"


def begin_job_log(config: DictConfig) -> None:
    """Send what this process prints to the job's log file, and tell that the job has begun.

    Args:
        config: composed config of the job, with Hydra's own.
    """
    folder, num = Path(config.hydra.sweep.dir), int(config.hydra.job.num)
    node = as_launched().get(NODE) or as_launched().get("SLURM_PROCID")
    if _in_turn == os.getpid() or node not in (None, "0"):  # the first node of a job speaks for all
        return
    if OWN_LOGS not in config.hydra.launcher._target_:
        _redirect(log_of(folder, num))
        words = " ".join(overrides_of(config))
        print(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  job {num}: {words}", file=sys.stderr)
    begin_telling(folder / STATES / f"{num}.json")


def end_job_log(job_return: JobReturn) -> None:
    """Write to the log why a job failed, send the output of this process where it went before, and tell the end.

    Args:
        job_return: what came of the job.
    """
    if _in_turn == os.getpid():
        return
    if job_return.status == JobStatus.FAILED:
        error: Any = job_return._return_value
        line = explain(error)
        if line is None:
            traceback.print_exception(error)
        else:
            print(f"genlab: error: {line}", file=sys.stderr)
        end_telling(state="failed", reason=line or f"{type(error).__name__}: {first_line(error)}")
    else:
        end_telling(state="done", best=job_return._return_value)
    _flush()
    while _kept:
        number = len(_kept)
        os.dup2(kept := _kept.pop(), number)
        os.close(kept)


def _redirect(log: Path) -> None:
    """Let standard output and error write to a file, also in libraries and in processes that are started."""
    log.parent.mkdir(parents=True, exist_ok=True)
    _flush()
    if not _kept:  # a job that was interrupted has not taken its own back
        _kept.extend(os.dup(number) for number in (1, 2))
    opened = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for number in (1, 2):
        os.dup2(opened, number)
    os.close(opened)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
