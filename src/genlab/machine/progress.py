"""Progress of long computations: a bar on a terminal, lines in a log file, and a sign of life every half minute."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Event, Thread
from typing import ClassVar

from genlab.machine.console import console
from genlab.machine.plain_text import printable
from genlab.machine.told import tell

EVERY = 30.0  # seconds between two lines


class _Signs:
    """When the last line of progress was printed, the bars that move, and who may speak: shared by all computations."""

    last = 0.0
    bars = 0
    speakers: ClassVar[list[object]] = []  # the innermost computation, which is the last one, speaks


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
        lines = _Lines(what, total)
        with signs_of_life(lines.state):
            yield lines
        return
    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=terminal, transient=True) as bar:
        task = bar.add_task(printable(what), total=total)
        _Signs.bars += 1
        try:
            yield lambda count: bar.advance(task, count)
        finally:
            _Signs.bars -= 1
            _Signs.last = time.monotonic()


@contextmanager
def signs_of_life(what: str | Callable[[], str]) -> Iterator[None]:
    """Print a line when nothing was printed for half a minute, also within a single long operation.

    Args:
        what: name of the computation, or a function that gives the line.
    """
    started, ended = time.monotonic(), Event()

    def watch() -> None:
        quiet_since = started
        while not ended.wait(max(0.01, quiet_since + EVERY - time.monotonic())):
            now = time.monotonic()
            if _Signs.bars or _Signs.speakers[-1] is not ended:
                quiet_since = now
            elif now - max(_Signs.last, quiet_since) < EVERY:
                quiet_since = _Signs.last
            else:
                _print(f"{what}: {now - started:.0f} s so far" if isinstance(what, str) else what())

    thread = Thread(target=watch, daemon=True)
    _Signs.speakers.append(ended)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
        _Signs.speakers.remove(ended)


def _print(line: str) -> None:
    _Signs.last = time.monotonic()
    console(stderr=True).print(line)


class _Lines:
    """Progress as lines in a log file."""

    def __init__(self, what: str, total: int) -> None:
        self.what, self.total = what, total
        self.done = 0
        self.started = time.monotonic()

    def state(self) -> str:
        seconds = time.monotonic() - self.started
        left = (
            f"{seconds * (self.total - self.done) / self.done:.0f} s left" if self.done else f"{seconds:.0f} s so far"
        )
        return f"{self.what}: {self.done:,} of {self.total:,}, {left}"

    def __call__(self, count: int) -> None:
        self.done += count
        tell(stage=self.what, fraction=self.done / max(1, self.total), left=None)
        if time.monotonic() - max(self.started, _Signs.last) >= EVERY and self.done < self.total:
            _print(self.state())
