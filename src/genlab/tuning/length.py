"""How long a run will take, and how much of that its measurement may take."""

import copy
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch

from genlab.metrics.drawing import own_randomness
from genlab.training.parts import Parts

# Share of a run's time that the measurement may take.
SHARE = 0.02
# Seconds below which nothing can be measured: each candidate has a process, which imports PyTorch and reads the data.
LEAST = 6.0
# Steps of an estimate, the first of which also allocates memory, and the seconds of a step after which one is enough.
TRIES, LONG = 3, 0.5


def batches_of(config: Mapping[str, Any], parts: Parts) -> int | None:
    """Count the batches of a run that has not begun; None if only time limits it.

    Args:
        config: config of the run, as plain values.
        parts: parts built from the config.
    """
    trainer, training = config["trainer"], parts.training
    epoch = len(parts.data.train_dataloader())
    if (limit := trainer.get("limit_train_batches")) is not None:
        epoch = int(epoch * limit) if isinstance(limit, float) else min(epoch, limit)
    epochs, steps = trainer.get("max_epochs"), trainer.get("max_steps", -1)
    if epochs is None and steps < 0 and trainer.get("max_time") is None:
        epochs = 1000  # Lightning's own
    limits: list[float] = []
    if epochs is not None and epochs >= 0:
        limits.append(epochs * epoch)
    if training.images is not None:
        limits.append(-(-training.images // parts.data.batch_size))
    if steps >= 0:
        limits.append(training.batches_of_steps(steps, parts.data.batch_size))
    return max(1, int(min(limits))) if limits else None


def seconds_of(max_time: Any) -> float | None:
    """Give the seconds of ``trainer.max_time``: a text such as ``00:00:30:00``, a mapping, or None."""
    if max_time is None:
        return None
    if isinstance(max_time, Mapping):
        return timedelta(**max_time).total_seconds()
    if isinstance(max_time, timedelta):
        return max_time.total_seconds()
    days, hours, minutes, seconds = map(int, str(max_time).split(":"))
    return timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds).total_seconds()


def seconds_of_a_step(parts: Parts, precision: str, device: torch.device) -> float | None:
    """Estimate the seconds of a step from a few on a copy of the model, without the optimizer; None if it fails.

    It only serves to tell whether there is time for a measurement. Weights, randomness and data stay as they are.

    Args:
        parts: parts of the run.
        precision: precision as Lightning names it.
        device: device to compute on.
    """
    x, y = parts.data.some("train", parts.data.batch_size)
    try:
        with own_randomness(0, device):
            training = copy.deepcopy(parts.training).to(device).train()
            x, y = x.to(device), y.to(device)
            for _ in range(TRIES):
                _wait(device)
                started = time.perf_counter()
                with torch.autocast(device.type, torch.bfloat16, enabled=precision.startswith("bf16")):
                    losses = training.losses(x, y)
                for loss in losses:
                    loss.backward()
                _wait(device)
                seconds = time.perf_counter() - started
                if seconds > LONG:
                    break
    except Exception:  # such as too little memory; the measurement will say it
        return None
    finally:
        if device.type == "cuda" and torch.cuda.is_initialized():
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
    return seconds


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def run_seconds(batches: float, step: float | None, max_time: float | None) -> float:
    """Estimate the seconds of a run; infinite if nothing limits it.

    Args:
        batches: number of batches, infinite if only time limits the run.
        step: seconds of a step; None if unknown.
        max_time: seconds after which the run ends; None for no limit.
    """
    limits = [] if max_time is None else [max_time]
    if step is not None:
        limits.append(batches * step)
    return min(limits, default=float("inf"))
