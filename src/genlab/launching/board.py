"""The jobs of a parallel sweep, as they tell their state: which wait, run, are done or failed, and the time left."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

from genlab.launching.job_log import STATES
from genlab.machine.plain_text import on_one_line
from genlab.machine.told import told

TRAINED = 0.95  # share of a job that its training is said to be; the rest is measuring


@dataclass
class Job:
    """One job of a sweep.

    Attributes:
        num: its number, which is also the name of its folder.
        what: those of its overrides that not all jobs share.
        told: what it told last; empty if it waits.
        before: whether it was done before this launch of the sweep.
    """

    num: int
    what: str
    told: Mapping[str, Any] = field(default_factory=dict)
    before: bool = False

    @property
    def state(self) -> str:
        return str(self.told.get("state", "waiting"))

    @property
    def has_ended(self) -> bool:
        return self.state in ("done", "failed")

    @property
    def work(self) -> float:
        """Share of the job that is done, in [0, 1]."""
        return 1.0 if self.has_ended else TRAINED * float(self.told.get("trained", 0.0))

    @property
    def stage(self) -> str:
        """What the job does now, such as ``training 42%``, or how it ended."""
        if self.state != "running":
            return self.state
        share = self.told.get("fraction")
        return on_one_line(f"{self.told.get('stage', 'starts')}{'' if share is None else f' {share:.0%}'}")

    def time(self, now: float) -> str:
        """Give the time that the job took, or that is left of what it does."""
        if self.state == "waiting":
            return ""
        if self.has_ended:
            return duration(self.told.get("ended", now) - self.told.get("began", now))
        left = self.told.get("left")
        return duration(now - self.told.get("began", now)) if left is None else f"{duration(left)} left"

    @property
    def outcome(self) -> str:
        """What came of the job: its best value, or why it failed; its overrides while it runs."""
        if self.state == "failed":
            return on_one_line(f"{self.told.get('reason', '')} ({self.what})")
        best = self.told.get("best")
        return on_one_line(f"best {best:.4g}  {self.what}" if isinstance(best, float) else self.what)


class Board:
    """The jobs of a launch, kept up to date from what they tell.

    Args:
        folder: folder of the sweep.
        first: number of the first job.
        overrides: overrides of each job of this launch.
        total: number of jobs of the whole sweep; more than these in a search.
        done: numbers of the jobs that were done before this launch.
    """

    def __init__(
        self,
        folder: Path,
        first: int,
        overrides: Sequence[Sequence[str]],
        total: int,
        done: frozenset[int] = frozenset(),
    ) -> None:
        shared = set.intersection(*map(set, overrides)) if len(overrides) > 1 else set[str]()
        texts = [" ".join(one for one in job if one not in shared) for job in overrides]
        self.folder, self.total, self.earlier = folder, total, first
        self.jobs = {first + i: Job(first + i, text, before=first + i in done) for i, text in enumerate(texts)}
        self.began = time.time()
        self.ended: list[Job] = []  # in the order in which they ended
        self._seen: dict[int, int] = {}

    def refresh(self) -> list[Job]:
        """Read what jobs have told since the last time, and give those that have ended since."""
        ended: list[Job] = []
        try:
            entries = list(os.scandir(self.folder / STATES))
        except OSError:
            return []
        for entry in entries:
            name = entry.name.removesuffix(".json")
            job = self.jobs.get(int(name)) if name.isdigit() else None
            if job is None or job.has_ended:
                continue
            try:
                written = entry.stat().st_mtime_ns
            except OSError:
                continue
            if self._seen.get(job.num) != written and (content := told(Path(entry.path))) is not None:
                self._seen[job.num] = written
                job.told = content
                if job.has_ended:
                    ended.append(job)
        ended.sort(key=lambda job: job.told.get("ended", 0.0))
        self.ended += ended
        return ended

    @property
    def running(self) -> list[Job]:
        return [job for job in self.jobs.values() if job.state == "running"]

    @property
    def work(self) -> float:
        """Share of the sweep that is done, in [0, 1]."""
        return (self.earlier + sum(1.0 if job.before else job.work for job in self.jobs.values())) / max(1, self.total)

    def left(self, now: float) -> float | None:
        """Estimate the seconds left from the work done in this launch; None if it has hardly begun."""
        done = sum(job.work for job in self.jobs.values() if not job.before)
        rest = self.total - self.earlier - sum(job.before or job.work for job in self.jobs.values())
        return (now - self.began) * rest / done if done > 0.02 else None

    def summary(self, now: float) -> str:
        """Say in one line how many jobs have ended, failed and run, and the time left."""
        failed = sum(job.state == "failed" for job in self.ended)
        done = len(self.ended) - failed + self.earlier
        parts = [
            f"{done:,} of {self.total:,} done",
            f"{failed:,} failed" if failed else "",
            f"{len(self.running)} running",
        ]
        left = self.left(now)
        return ", ".join(filter(None, [*parts, "" if left is None else f"{duration(left)} left"]))


def duration(seconds: float) -> str:
    """Write a number of seconds as hours, minutes and seconds."""
    return str(timedelta(seconds=max(0, round(seconds))))
