"""Progress of long computations: a bar on a terminal, lines in a log file."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from genlab.machine.console import console, printable


@contextmanager
def with_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show a bar with the remaining time on a terminal; elsewhere, print a line every half minute.

    Args:
        what: name of the counted items.
        total: number of items.

    Yields:
        A function to call with the number of items that were completed since the last call.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    terminal = console(stderr=True)
    if not terminal.is_terminal:
        yield _Lines(what, total)
        return
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True) as bar:
        task = bar.add_task(printable(what), total=total)
        yield lambda count: bar.advance(task, count)


class _Lines:
    """Progress as lines in a log file."""

    def __init__(self, what: str, total: int, every: float = 30.0) -> None:
        self.what, self.total, self.every = what, total, every
        self.done = 0
        self.started = self.last = time.monotonic()

    def __call__(self, count: int) -> None:
        self.done += count
        now = time.monotonic()
        if now - self.last >= self.every and self.done < self.total:
            self.last = now
            left = (now - self.started) * (self.total - self.done) / self.done
            console(stderr=True).print(f"{self.what}: {self.done:,} of {self.total:,}, {left:.0f} s left")
