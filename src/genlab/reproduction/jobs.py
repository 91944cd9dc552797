"""Runs of recipes: begun or resumed in a process of their own, and stopped when the time is over."""

import csv
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from genlab.composition.resolvers import run_name
from genlab.errors import InputError
from genlab.machine.environment import code
from genlab.machine.units import seconds_of
from genlab.metrics.catalogue import figure
from genlab.metrics.published import fingerprint
from genlab.reproduction.recipes import Recipe
from genlab.runs.config import read_config
from genlab.runs.folder import METRICS, STATUS, RunFolder, find_runs
from genlab.runs.rows import images_logged
from genlab.runs.verdicts import FREE, is_free


@dataclass(frozen=True)
class Job:
    """A recipe with a seed.

    Attributes:
        recipe: recipe.
        seed: random seed.
        overrides: overrides about the machine, such as ``trainer=gpu``.
        threads: number of threads of the CPU.
    """

    recipe: Recipe
    seed: int
    overrides: tuple[str, ...] = ()
    threads: int = 1

    def __str__(self) -> str:
        return f"{self.recipe.name}, seed {self.seed}"


def check_overrides(overrides: Sequence[str]) -> None:
    """Raise InputError if an override changes more than where a recipe runs."""
    for override in overrides:
        key = override.partition("=")[0].lstrip("+")
        if not is_free(key):
            raise InputError(f"{override}: a recipe is run as it stands; what may be given is {', '.join(FREE)}")


def check_clean() -> None:
    """Raise InputError if files of genlab's checkout differ from its commit, for then the commit says nothing."""
    if (commit := code()["commit"]) is not None and commit.endswith("+"):
        raise InputError(
            "files of genlab's checkout are changed, and a record names a commit: commit them first, or run from a "
            "second clone"
        )


def outputs_folder(given: Path | None) -> Path:
    """Give the folder of all runs: the given one, or that of ``genlab train``."""
    return (given or Path(os.environ.get("GENLAB_OUTPUTS", "outputs"))).absolute()


def deadline_of(budget: str | None) -> float | None:
    """Give the time, as of ``time.monotonic``, at which a budget such as ``90m`` will be used up; None for no budget.

    Raises:
        InputError: if the budget is not a number with s, m, h, d or w.
    """
    if budget is None:
        return None
    if (seconds := seconds_of(budget)) is None:
        raise InputError(f"--budget {budget}: give a number with s, m, h or d, such as 90m")
    return time.monotonic() + seconds


def find(job: Job, outputs: Path) -> RunFolder | None:
    """Find the newest run of a job that began under today's ``reference:`` block; None if there is none.

    Args:
        job: recipe and seed.
        outputs: folder of all runs.
    """
    found = None
    for folder in find_runs([outputs / run_name(job.recipe.experiment, None, None)]):
        try:
            config = read_config(folder)
        except InputError:
            continue
        if config.get("seed") == job.seed and fingerprint(config.get("reference") or {}) == job.recipe.sha256:
            found = folder
    return found


def run(job: Job, outputs: Path, deadline: float | None) -> RunFolder | None:
    """Begin or resume the run of a job, and wait for its end.

    Args:
        job: recipe and seed.
        outputs: folder of all runs.
        deadline: time, as of ``time.monotonic``, at which the run is asked to save its state and stop; None for none.

    Returns:
        Folder of the finished run; None if the time was over before.

    Raises:
        InputError: if the training failed.
    """
    folder = find(job, outputs)
    if folder is not None and folder.read_json(STATUS).get("status") == "done":
        return folder
    if folder is None:
        arguments = [f"experiment={job.recipe.experiment}", f"seed={job.seed}", f"paths.output_dir={outputs}"]
    else:
        arguments = [f"resume={folder.path}"]
    command = [sys.executable, "-m", "genlab", "train", *arguments, *job.overrides]
    print(f"genlab: {job}: {' '.join(['genlab', *command[3:]])}", file=sys.stderr)
    process = subprocess.Popen(command, env={"OMP_NUM_THREADS": str(job.threads), **os.environ})
    watch = OnTrack(job, outputs)
    stopped = False
    try:
        while process.poll() is None:
            time.sleep(0.5)
            watch.look()
            if deadline is not None and time.monotonic() > deadline and not stopped:
                process.send_signal(signal.SIGTERM)
                stopped = True
    except KeyboardInterrupt:
        process.send_signal(signal.SIGTERM)
        process.wait()
        raise
    folder = find(job, outputs)
    status = folder.read_json(STATUS) if folder is not None else {}
    if folder is not None and status.get("status") == "done":
        return folder
    if stopped:
        return None
    where = f"; {folder.path} says why" if folder is not None else ""
    raise InputError(f"{job}: the training ended with code {process.returncode}{where}")


def evaluate_further(folder: RunFolder, threads: int) -> None:
    """Make the evaluations that an experiment asks for besides that at the end of training (``evaluations:``).

    Args:
        folder: folder of the finished run.
        threads: number of threads of the CPU.

    Raises:
        InputError: if an evaluation failed.
    """
    for arguments in read_config(folder).get("evaluations") or []:
        command = [sys.executable, "-m", "genlab", "evaluate", str(folder.path), *arguments]
        print(f"genlab: {' '.join(['genlab', *command[3:]])}", file=sys.stderr)
        ended = subprocess.run(command, env={"OMP_NUM_THREADS": str(threads), **os.environ}, check=False)
        if ended.returncode != 0:
            raise InputError(f"{folder.path}: the evaluation with {' '.join(arguments)} failed")


def cut_off(job: Job, outputs: Path) -> str:
    """Say in words how far a job is whose time is over, and as how much of the published training that counts.

    Args:
        job: recipe and seed.
        outputs: folder of all runs.
    """
    folder = find(job, outputs)
    seen = images_logged(folder) if folder is not None else 0
    published = job.recipe.published.images
    of = "" if published is None else f", {100 * seen / published:.0f} % of the published training"
    return f"the time is over in {job} after {seen:,} images{of}; the same command goes on with it"


class OnTrack:
    """Compares a running job with the points of a published training curve, and prints a line at each point.

    Args:
        job: recipe and seed.
        outputs: folder of all runs.
    """

    def __init__(self, job: Job, outputs: Path) -> None:
        self.job, self.outputs = job, outputs
        self.looked = 0.0
        self.passed: set[tuple[str, int]] = set()

    def look(self, every: float = 30.0) -> None:
        """Look at the run's figures, at most every so many seconds."""
        curve = self.job.recipe.published.curve
        if not curve or time.monotonic() - self.looked < every:
            return
        self.looked = time.monotonic()
        folder = find(self.job, self.outputs)
        if folder is None or not (path := folder.path / METRICS).is_file():
            return
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for name, points in curve.items():
            for images, value in points:
                past = [row for row in rows if row.get(name) and float(row["images_seen"]) >= images]
                if past and (name, images) not in self.passed:
                    self.passed.add((name, images))
                    print(f"genlab: {self.job}: {compared(name, float(past[0][name]), value, images)}", file=sys.stderr)


def compared(name: str, ours: float, published: float, images: int) -> str:
    """Say in words how a figure compares with a point of a published curve."""
    behind = (ours - published) * (-1 if figure(name).better == "max" else 1)
    words = "on track" if behind <= 0 else f"behind by {behind:.3g}"
    return f"{words} at {images:,} images: {name} {ours:.4g}, published {published:.4g}"
