"""Show the progress of training: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pydantic import NonNegativeFloat
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from genlab.callbacks.throughput import Throughput
from genlab.machine.console import LiteralConsole
from genlab.machine.progress import signs_of_life
from genlab.machine.rate import rate
from genlab.machine.told import tell
from genlab.metrics.catalogue import figure
from genlab.training.module import TrainingModule

FIRST = "the first batch"
BAR, NARROW_BAR, WIDE = 30, 8, 120  # widths of the bar, and of a terminal that has room for the wide one


@dataclass(frozen=True)
class Moment:
    """The point that a training has reached.

    Attributes:
        fraction: share of it that is done, in [0, 1].
        seconds_left: seconds left of it; None if nothing says when it ends.
        by_clock: whether it is ``trainer.max_time`` that ends it.
        parts: what else is to be said, the most important first.
    """

    fraction: float
    seconds_left: float | None
    by_clock: bool
    parts: Sequence[str] = ()

    def line(self, width: int | None = None) -> str:
        """Say it in one line; parts that a width has no room for are left out whole.

        Args:
            width: maximal number of characters; None for any number.
        """
        left = "?" if self.seconds_left is None else str(timedelta(seconds=max(0, round(self.seconds_left))))
        line = f"max_time in {left}" if self.by_clock else f"ETA {left}"
        for part in self.parts:
            if width is None or len(line) + 2 + len(part) <= width:
                line += f"  {part}"
        return line


class TrainingProgress(pl.Callback):
    """A callback that shows the time left, images seen, images/s and the latest figures.

    The rate is that of training alone, as in the run's summary; the time left counts everything, as pictures and
    validation take time as well, and is that of ``trainer.max_time`` if this ends the training first. A job of a
    parallel sweep tells how far it is to the process that shows the sweep, too.

    Args:
        line_every: seconds between two lines if there is no terminal.
    """

    def __init__(self, line_every: NonNegativeFloat = 20.0) -> None:
        self.line_every = line_every
        self.console = LiteralConsole(file=sys.stderr)
        self.bar: Progress | None = None
        self.task: TaskID | None = None
        self.total: int | None = None
        self.max_seconds: float | None = None
        self.started = self.shown = self.told = 0.0
        self.seen_at_start = 0
        self.first_batch = ExitStack()

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        batches = module.total_batches()
        if batches is not None:
            self.total = batches * trainer.datamodule.batch_size  # type: ignore[attr-defined]
        timers = [c for c in trainer.callbacks if isinstance(c, pl.callbacks.Timer)]  # type: ignore[attr-defined]
        self.max_seconds = min((left for t in timers if (left := t.time_remaining()) is not None), default=None)
        self.started = self.shown = time.monotonic()
        self.seen_at_start = module.images_seen
        if trainer.is_global_zero and self.console.is_terminal:
            self.bar = Progress(
                TextColumn("{task.percentage:>3.0f}%"),
                BarColumn(bar_width=BAR if self.console.width >= WIDE else NARROW_BAR),
                TextColumn("{task.description}", markup=False),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task(FIRST, total=1.0)
            self.bar.start()
        elif trainer.is_global_zero:
            self.first_batch.enter_context(signs_of_life(FIRST))

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        self.first_batch.close()
        now = time.monotonic()
        tells, shows = now - self.told >= 1.0, now - self.shown >= (0.25 if self.bar else self.line_every)
        if not tells and not shows:
            return
        assert isinstance(module, TrainingModule)
        moment = self._moment(module, now - self.started)
        if tells:
            self.told = now
            tell(stage="training", fraction=moment.fraction, trained=moment.fraction, left=moment.seconds_left)
        if not shows:
            return
        self.shown = now
        moment = replace(moment, parts=self._parts(trainer, module, now - self.started))
        if self.bar is not None and self.task is not None:
            bar = BAR if self.console.width >= WIDE else NARROW_BAR
            room = self.console.width - len("100% ") - bar - 2  # the terminal may have been made narrower
            self.bar.update(self.task, completed=moment.fraction, description=moment.line(room))
        else:
            self.console.print(f"{moment.fraction:4.0%}  {moment.line()}", highlight=False, soft_wrap=True)

    def _rate(self, module: TrainingModule, seconds: float) -> float:
        return (module.images_seen - self.seen_at_start) / max(seconds, 1e-9)

    def _moment(self, module: TrainingModule, seconds: float) -> Moment:
        in_all = self._rate(module, seconds)
        fractions, left = [0.0], list[tuple[float, bool]]()
        if self.total:
            fractions.append(module.images_seen / self.total)
            left.append(((self.total - module.images_seen) / max(in_all, 1e-9), False))
        if self.max_seconds:
            fractions.append(seconds / self.max_seconds)
            left.append((self.max_seconds - seconds, True))
        soonest, by_clock = min(left, default=(None, False))
        return Moment(min(1.0, max(fractions)), soonest, by_clock)

    def _parts(self, trainer: pl.Trainer, module: TrainingModule, seconds: float) -> list[str]:
        """Say what else there is; this reads figures from the device, and is called only when they are shown."""
        modality = trainer.datamodule.modality  # type: ignore[attr-defined]
        each, in_all = modality.counted_in(module.model.shape), self._rate(module, seconds)
        figures = {name: value for name, value in module.latest_values().items() if name.endswith("loss")}
        figures |= {name: float(value) for name, value in trainer.callback_metrics.items() if _is_live(name)}
        speed = f"{rate(each * in_all, modality.unit_of_speed)} in all"
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Throughput) and (alone := callback.images_per_second_now(module)) is not None:
                speed = rate(each * alone, modality.unit_of_speed)
        return [
            f"{module.images_seen:,} {modality.noun}",
            speed,
            *(f"{name} {value:.4g}" for name, value in figures.items()),
        ]

    def _stop(self) -> None:
        self.first_batch.close()
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()


def _is_live(name: str) -> bool:
    return name.startswith("val/") and figure(name).live
