"""Timing contenders fairly: one after the other, again and again, so that what slows the machine slows them all."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """Seconds of one call in every round."""

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        return min(self.seconds), max(self.seconds)

    def times(self, other: "Timing") -> float:
        """How many times as long as another, by the median over rounds of the ratio within a round."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def interleaved(
    contenders: Mapping[str, Callable[[], float | None]], rounds: int, advance: Callable[[int], None] | None = None
) -> dict[str, Timing]:
    """Call every contender once a round, in an order that turns from round to round.

    Args:
        contenders: what to time; one that gives a number has timed itself.
        advance: told of every call that is over.
    """
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    names = list(contenders)
    for i in range(rounds):
        for name in names[i % len(names) :] + names[: i % len(names)]:
            started = time.perf_counter()
            own = contenders[name]()
            seconds[name].append(time.perf_counter() - started if own is None else own)
            if advance is not None:
                advance(1)
    return {name: Timing(tuple(values)) for name, values in seconds.items()}


def synchronize(device: torch.device) -> None:
    """Wait for what was launched; a CPU has nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
