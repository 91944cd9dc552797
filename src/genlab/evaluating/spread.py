"""Draw a run's samples by several processes, one for each device: the samples are those of one process."""

import multiprocessing
import os
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.composition.trust import own_values
from genlab.errors import InputError, RunFailed
from genlab.machine.devices import tune_processor
from genlab.machine.process import OF_RUN, end_with_parent, keep_freed_memory, quiet_libraries
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import BATCH, draw
from genlab.metrics.evaluation import Evaluation
from genlab.metrics.norm_statistics import with_own_statistics
from genlab.models.abilities import CountsEvaluations
from genlab.models.base import GenerativeModel
from genlab.models.sampling import SamplingSettings, Tally
from genlab.runs.loading import Run, load

_run: Run | None = None
_models: dict[str, GenerativeModel] = {}


class Devices:
    """Processes that have opened a run, each with its own device.

    Args:
        pool: the processes.
        run: run that they have opened.
    """

    def __init__(self, pool: ProcessPoolExecutor, run: Run) -> None:
        self.pool, self.run = pool, run

    def samples(self, evaluation: Evaluation, sampling: SamplingSettings) -> Tensor | None:
        """Draw the samples of an evaluation, ``(N, *shape)``; None if no measure needs them.

        Args:
            evaluation: evaluation, which says how many samples, and from which seed.
            sampling: sampling settings.

        Raises:
            RunFailed: if a process died.
        """
        if not evaluation.needs_samples:
            return None
        total = evaluation.num_drawn(self.run.data)
        how = (evaluation.seed, sampling, evaluation.norm_statistics)
        parts = [range(first, min(first + BATCH, total)) for first in range(0, total, BATCH)]
        if isinstance(self.run.model, CountsEvaluations):
            self.run.model.tally = Tally()
        with with_progress("samples", total) as advance:
            waiting = [self.pool.submit(_draw, part, *how) for part in parts]
            return torch.cat([self._drawn(one, part, advance) for one, part in zip(waiting, parts, strict=True)])

    def _drawn(self, one: Future[Any], part: range, advance: Any) -> Tensor:
        try:
            drawn, tally = one.result()
        except BrokenProcessPool as error:
            raise RunFailed("a process that draws samples died: fewer devices=... need less memory") from error
        if isinstance(self.run.model, CountsEvaluations):
            self.run.model.tally.join(tally)
        advance(len(part))
        return torch.from_numpy(drawn)


@contextmanager
def spread(run: Run, kind: Any, num: int) -> Iterator[Devices | None]:
    """Open a run in several processes, which end with the context; None for one process, which needs no others.

    Args:
        run: run to draw samples of.
        kind: weights to load, as :func:`~genlab.runs.loading.load` takes them.
        num: number of devices.

    Raises:
        InputError: if there are not so many.
    """
    if num == 1:
        yield None
        return
    names = devices_of(run.device, num)
    context = multiprocessing.get_context("spawn")
    left = context.SimpleQueue()
    for name in names:
        left.put(name)
    given = (str(run.folder.path), run.config, run.checkpoint, kind)
    threads = max(1, torch.get_num_threads() // num) if run.device.type == "cpu" else None
    with ProcessPoolExecutor(num, context, _open, (left, given, threads)) as pool:
        try:
            yield Devices(pool, run)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def devices_of(device: torch.device, num: int) -> list[str]:
    """Name the devices of processes.

    Args:
        device: device that was chosen.
        num: number of processes.

    Raises:
        InputError: if there are not so many.
    """
    if num < 1:
        raise InputError(f"devices={num}: at least 1")
    if device.type != "cuda":
        return [device.type] * num
    if device.index is not None:
        raise InputError(f"devices={num}: device={device} is one device; give device=cuda")
    if num > torch.cuda.device_count():
        raise InputError(f"devices={num}: this machine has {torch.cuda.device_count()} GPUs")
    return [f"cuda:{index}" for index in range(num)]


def _open(left: Any, given: tuple[str, dict[str, Any], str, Any], threads: int | None) -> None:
    """Open the run in a process of the pool."""
    global _run
    end_with_parent()
    os.environ.update({OF_RUN: "", "RANK": "1"})  # what is said of the data has been said
    quiet_libraries()
    keep_freed_memory()
    tune_processor()
    if threads is not None:
        torch.set_num_threads(threads)
    folder, config, checkpoint, kind = given
    own_values(config)  # the process that started this one has checked it
    _run = load(folder, checkpoint, kind, left.get(), config["dataset"])


def _draw(
    part: range, seed: int, sampling: SamplingSettings, norm_statistics: int | None
) -> tuple[np.ndarray, Tally | None]:
    assert _run is not None
    model = _run.model
    model.sampling = sampling
    if norm_statistics is not None:
        key = repr(sampling)
        if key not in _models:
            _models[key] = with_own_statistics(model, norm_statistics, seed)
        model = _models[key]
    drawn = draw(model, len(part), seed=seed, indices=part, decode=_run.data.decode).numpy()
    return drawn, model.tally if isinstance(model, CountsEvaluations) else None
