"""Show a parallel sweep while it runs: one line per job on a terminal, timestamped lines elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, Thread

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table

from genlab.launching.board import Board, Job
from genlab.launching.job_log import log_of
from genlab.launching.sweeps import LOGS
from genlab.machine.console import console

EVERY = {True: 0.5, False: 1.0}  # seconds between two looks at what jobs tell, on a terminal and elsewhere
SUMMARY_EVERY = 60.0  # seconds between two lines about the whole sweep, if there is no terminal
LAST = 5  # finished jobs that a terminal shows
TOLD_FAILURES = 20  # failed jobs that a terminal says in full while the sweep runs; the table at its end has all


@contextmanager
def shown(board: Board, own_logs: bool = False) -> Iterator[None]:
    """Show the jobs of a sweep until they have ended.

    Args:
        board: jobs of the sweep.
        own_logs: whether the jobs' output is in files of the launcher's, and not in genlab's.
    """
    screen = console(stderr=True)
    on_terminal = screen.is_terminal
    screen.print(f"sweep of {board.total:,} jobs: {board.folder}", soft_wrap=True, highlight=False)
    if not own_logs:
        screen.print(f"there, the run of job n is in n/, and what it prints in {LOGS}/n.log", highlight=False)
    ended = Event()
    live = Live(console=screen, auto_refresh=False, transient=True) if on_terminal else None
    failures = 0
    last_summary = time.monotonic()

    def look() -> None:
        nonlocal failures, last_summary
        for job in board.refresh():
            failures += job.state == "failed"
            if not on_terminal or (job.state == "failed" and failures <= TOLD_FAILURES):
                screen.print(_line(board, job, own_logs), soft_wrap=not on_terminal, highlight=False)
        now = time.time()
        if live is not None:
            live.update(_screenful(board, now, screen.width, screen.height), refresh=True)
        elif time.monotonic() - last_summary >= SUMMARY_EVERY:
            last_summary = time.monotonic()
            running = "; ".join(f"job {job.num} {job.stage}" for job in board.running[:8])
            screen.print(f"{_clock(now)}  {board.summary(now)}: {running}", soft_wrap=True, highlight=False)

    def watch() -> None:
        while not ended.wait(EVERY[on_terminal]):
            look()

    thread = Thread(target=watch, daemon=True)
    if live is not None:
        live.start()
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        look()
        if live is not None:
            live.stop()


def _clock(now: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now))


def _line(board: Board, job: Job, own_logs: bool) -> str:
    """Say in one line how a job ended, and where its output is if it failed."""
    output = board.folder / ".submitit" if own_logs else log_of(board.folder, job.num)
    log = f"; see {output}" if job.state == "failed" else ""
    took = f"{job.state} after {job.time(time.time())}"
    return f"{_clock(job.told.get('ended', time.time()))}  job {job.num} {took}: {job.outcome}{log}"


def _screenful(board: Board, now: float, width: int, height: int) -> RenderableType:
    """Draw what fits on the terminal: running jobs, the last finished ones, and a bar for the whole sweep."""
    table = Table.grid(padding=(0, 2), expand=True)
    table.add_column(justify="right", no_wrap=True)
    for least in (13, 12):  # as wide as what mostly stands there, so that columns do not jump
        table.add_column(no_wrap=True, min_width=least)
    table.add_column(no_wrap=True, overflow="ellipsis", ratio=1)
    room = max(2, height - 3)
    running = board.running
    if len(running) > room:
        shown_jobs, more = running[: room - 1], f"and {len(running) - room + 1:,} more that run"
    else:
        shown_jobs, more = [*board.ended[-min(LAST, room - len(running)) :], *running], ""
        if len(running) == room:
            shown_jobs = running
    for job in shown_jobs:
        table.add_row(f"job {job.num}", job.stage, job.time(now), job.outcome)
    if more:
        table.add_row("", "", "", more)
    summary = board.summary(now)
    bar = Table.grid(padding=(0, 1))
    bar.add_row(
        ProgressBar(total=1.0, completed=board.work, width=max(8, width - len(summary) - 8)),
        f"{board.work:4.0%}",
        summary,
    )
    return Group(table, bar)
