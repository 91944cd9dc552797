"""Show the progress of training: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from datetime import timedelta
from typing import Any

import pytorch_lightning as pl
from pydantic import NonNegativeFloat
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from genlab.callbacks.throughput import Throughput
from genlab.machine.console import LiteralConsole
from genlab.metrics.catalogue import figure
from genlab.training.module import TrainingModule


class TrainingProgress(pl.Callback):
    """A callback that shows images seen, images/s, time left and the latest figures.

    The rate is that of training alone, as in the run's summary; the time left counts everything, as pictures and
    validation take time as well.

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
        self.started = self.shown = 0.0
        self.seen_at_start = 0

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
                BarColumn(bar_width=30),
                TaskProgressColumn(),
                TextColumn("{task.description}", markup=False),
                console=self.console,
                transient=True,
            )
            self.task = self.bar.add_task("", total=1.0)
            self.bar.start()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        if not trainer.is_global_zero:
            return
        now = time.monotonic()
        if now - self.shown < (0.25 if self.bar else self.line_every):
            return
        assert isinstance(module, TrainingModule)
        self.shown = now
        fraction, line = self._describe(trainer, module, now - self.started)
        if self.bar is not None and self.task is not None:
            self.bar.update(self.task, completed=fraction, description=line)
        else:
            self.console.print(f"{fraction:4.0%}  {line}", highlight=False, soft_wrap=True)

    def _describe(self, trainer: pl.Trainer, module: TrainingModule, seconds: float) -> tuple[float, str]:
        done = module.images_seen - self.seen_at_start
        rate = done / max(seconds, 1e-9)
        fractions, left = [0.0], []
        if self.total:
            fractions.append(module.images_seen / self.total)
            left.append((self.total - module.images_seen) / max(rate, 1e-9))
        if self.max_seconds:
            fractions.append(seconds / self.max_seconds)
            left.append(self.max_seconds - seconds)
        figures = {name: value for name, value in module.latest_values().items() if name.endswith("loss")}
        figures |= {name: float(value) for name, value in trainer.callback_metrics.items() if _is_live(name)}
        eta = timedelta(seconds=max(0, round(min(left)))) if left else "?"
        shown = "  ".join(f"{name} {value:.4g}" for name, value in figures.items())
        speed = f"{rate:,.0f} images/s in all"
        for callback in trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, Throughput) and (alone := callback.images_per_second_now(module)) is not None:
                speed = f"{alone:,.0f} images/s"
        return min(1.0, max(fractions)), f"{module.images_seen:,} images  {speed}  ETA {eta}  {shown}"

    def _stop(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None

    def on_train_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._stop()

    def on_exception(self, trainer: pl.Trainer, module: pl.LightningModule, exception: BaseException) -> None:
        self._stop()


def _is_live(name: str) -> bool:
    return name.startswith("val/") and figure(name).live
