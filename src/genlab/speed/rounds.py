"""Time contenders fairly: in turns, round after round, so that whatever slows the machine slows all of them."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Timing:
    """The timings of one contender.

    Attributes:
        seconds: seconds of its call in each round.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median over rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def spread(self) -> tuple[float, float]:
        """Smallest and largest value over rounds, in seconds."""
        return min(self.seconds), max(self.seconds)

    def times(self, other: "Timing") -> float:
        """Tell how many times as long as another this took: the median over rounds of the ratio within a round."""
        return statistics.median(a / b for a, b in zip(self.seconds, other.seconds, strict=True))


def interleaved(
    contenders: Mapping[str, Callable[[], float | None]], rounds: int, advance: Callable[[int], None] | None = None
) -> dict[str, Timing]:
    """Call every contender once per round; each round begins with the next contender.

    Args:
        contenders: functions to time, by name; if one returns a number, it is taken as the time in seconds.
        rounds: number of rounds.
        advance: callback for a progress bar, called with 1 after every call.
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
    """Wait until a device has finished its work; a CPU has nothing to wait for."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
