"""Stages of a step of the minimal loop, and the seconds that each takes."""

import time
from collections.abc import Callable
from typing import Any

from genlab.speed.loops import PlainLoop, PlainObjective
from genlab.speed.rounds import synchronize


def stages(plain: PlainLoop, steps: int) -> dict[str, float]:
    """Measure the mean seconds of each stage of a step; of a game, only the stage ``data`` is separate.

    Args:
        plain: minimal loop.
        steps: number of steps to train for.
    """
    state: dict[str, Any] = {}

    def data() -> None:
        state["batch"] = plain.batch()

    tasks: dict[str, Callable[[], Any]] = {"data": data}
    if isinstance(plain, PlainObjective):

        def forward() -> None:
            state["loss"] = plain.forward(*state["batch"])

        def backward() -> None:
            plain.backward(state["loss"])

        tasks |= {"forward": forward, "backward": backward, "optimizer": plain.update}
    seconds = dict.fromkeys(tasks, 0.0)
    for _ in range(steps):
        for name, task in tasks.items():
            synchronize(plain.device)
            started = time.perf_counter()
            task()
            synchronize(plain.device)
            seconds[name] += (time.perf_counter() - started) / steps
    return seconds
