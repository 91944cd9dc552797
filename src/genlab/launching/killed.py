"""Tell in one line that jobs of a parallel sweep ended without a word, as those do that the system kills."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from genlab.errors import RunFailed

# By name, because the libraries that raise them need not be installed.
OF_CORES = ("TerminatedWorkerError", "BrokenProcessPool")
OF_SLURM = ("UncompletedJobError",)
OF_RAY = ("WorkerCrashedError", "NodeDiedError", "LocalRayletDiedError", "OutOfMemoryError")


@contextmanager
def said_in_a_line(folder: Path) -> Iterator[None]:
    """Say in one line which job inside the context was killed; jobs of a cluster are waited for first.

    Args:
        folder: folder of the sweep.

    Raises:
        RunFailed: if a job was killed.
    """
    jobs = folder / ".submitit"
    earlier = _names(jobs)
    again = f"with sweep.resume={folder} the same command does what is missing"
    try:
        yield
    except Exception as error:
        kind = type(error).__name__
        if kind in OF_CORES:
            raise RunFailed(
                f"a job's process was killed, maybe for want of memory, and the jobs beside it ended with it: {again}"
            ) from error
        if kind in OF_RAY and type(error).__module__.startswith("ray."):  # PyTorch has an OutOfMemoryError, too
            raise RunFailed(
                f"Ray lost the process of a job more often than hydra.launcher.ray.remote.max_retries allows: {again}"
            ) from error
        if kind in OF_SLURM:
            killed = _without_result(jobs, _names(jobs) - earlier)
            which = ", ".join(f"{name} ({state})" for name, state in killed[:3]) + ", ..." * (len(killed) > 3)
            what = f"{len(killed)} of SLURM's jobs" if len(killed) > 1 else "a SLURM job"
            raise RunFailed(f"{what} ended without a result: {which}; see {jobs}; {again}") from error
        raise


def _names(jobs: Path) -> set[str]:
    """Give SLURM's names of the jobs that have been submitted, such as ``121_0``."""
    return {path.parent.name for path in jobs.glob("*/*_submitted.pkl")}


def _without_result(jobs: Path, names: set[str]) -> list[tuple[str, str]]:
    """Wait until jobs have ended, and give the names and states of those that left no result."""
    from submitit import SlurmJob

    found = []
    for name in sorted(names, key=lambda name: [int(part) for part in name.split("_")]):
        job: Any = SlurmJob(folder=jobs / "%j", job_id=name)
        job.wait()
        if not job.paths.result_pickle.is_file():
            found.append((name, str(job.get_info().get("State", "ended"))))
    return found
