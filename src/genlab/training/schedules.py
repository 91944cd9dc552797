"""Learning-rate schedules over a run of known length, as factors of the optimizer's learning rate."""

import math
from collections.abc import Callable

from pydantic import NonNegativeFloat, NonNegativeInt, PositiveFloat
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from genlab.errors import InputError


def _warmed_up(
    optimizer: Optimizer,
    warmup_steps: NonNegativeInt,
    decay: Callable[[float], float],
    total_steps: int | None,
    until: PositiveFloat = 1.0,
) -> LambdaLR:
    if total_steps is None:
        raise InputError("this schedule needs the run's length: give trainer.max_epochs or budget.images")
    if not 0 < until <= 1:
        raise InputError(f"until={until}: a share of the run, above 0 and at most 1")

    def factor(step: int) -> float:
        if step < warmup_steps:
            return (step + 1) / warmup_steps
        return decay(min(1.0, (step - warmup_steps) / max(1, until * total_steps - warmup_steps)))

    return LambdaLR(optimizer, factor)


def constant(optimizer: Optimizer, total_steps: int | None = None, warmup_steps: NonNegativeInt = 0) -> LambdaLR | None:
    """Build a schedule with a linear warm-up over ``warmup_steps``, then a constant rate; ignores ``total_steps``.

    Without a warm-up there is nothing to schedule, and the result is None.
    """
    if warmup_steps == 0:
        return None
    return _warmed_up(optimizer, warmup_steps, lambda t: 1.0, total_steps or 0)


def linear(
    optimizer: Optimizer, total_steps: int | None, warmup_steps: NonNegativeInt = 0, final: NonNegativeFloat = 0.0
) -> LambdaLR:
    """Build a schedule with a linear warm-up, then a linear decay to ``final`` times the optimizer's rate."""
    return _warmed_up(optimizer, warmup_steps, lambda t: 1 + (final - 1) * t, total_steps)


def cosine(
    optimizer: Optimizer,
    total_steps: int | None,
    warmup_steps: NonNegativeInt = 0,
    final: NonNegativeFloat = 0.0,
    until: PositiveFloat = 1.0,
) -> LambdaLR:
    """Build a schedule with a linear warm-up, then a cosine decay to ``final`` times the rate (SGDR, arXiv:1608.03983).

    Args:
        optimizer: optimizer whose learning rate is scheduled.
        total_steps: number of steps of the whole run.
        warmup_steps: number of warm-up steps.
        final: factor of the learning rate at the end.
        until: share of the run, in (0, 1], after which the rate stays constant.
    """
    return _warmed_up(
        optimizer, warmup_steps, lambda t: final + (1 - final) * (1 + math.cos(math.pi * t)) / 2, total_steps, until
    )
