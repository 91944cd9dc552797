"""The choice among measured candidates: what takes least over the whole run, and is not a matter of chance."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from genlab.tuning.candidates import Candidate

# Share of the time of the whole run that another choice than the run's own must save.
MARGIN = 0.03
FEWEST_ROUNDS = 3


@dataclass
class Measured:
    """What was measured of a candidate.

    Attributes:
        candidate: the candidate.
        seconds_to_prepare: seconds that its first steps took beyond what steps take, such as those of compiling; None
            if they did not end in time.
        rounds: seconds per step in each round, in the order of the rounds.
        fault: why it is out of the question; None if it is not.
    """

    candidate: Candidate
    seconds_to_prepare: float | None = None
    rounds: list[float] = field(default_factory=list)
    fault: str | None = None

    @property
    def seconds_per_step(self) -> float | None:
        """Median over the rounds; None if there was none."""
        return statistics.median(self.rounds) if self.rounds else None

    def to_json(self, batch_size: int) -> dict[str, Any]:
        """Give the row of ``tune.json``."""
        step = self.seconds_per_step
        return {
            **self.candidate.settings(),
            "ms_per_step": None if step is None else round(1000 * step, 4),
            "images_per_second": None if step is None else round(batch_size / step, 1),
            "seconds_to_prepare": None if self.seconds_to_prepare is None else round(self.seconds_to_prepare, 2),
            "rounds_ms": [round(1000 * seconds, 4) for seconds in self.rounds],
            "fault": self.fault,
        }


def choose(measured: Sequence[Measured], batches: float) -> tuple[int, str]:
    """Choose a candidate, and say why.

    Another candidate than the first, which is the run's own, must be faster in its steps by more than the rounds
    differ, and must save a share of :data:`MARGIN` of the run's time with the time of its preparation counted.

    Args:
        measured: measured candidates, the run's own first; candidates with a fault are passed over.
        batches: number of steps of the run, infinite if nothing limits them.

    Returns:
        The index of the candidate, and the reason in a few words.
    """
    own, *others = measured
    if own.fault is not None:
        return 0, own.fault
    if all(other.fault is not None for other in others):
        return 0, "nothing else could be measured"
    if len(own.rounds) < FEWEST_ROUNDS:
        return 0, f"fewer than {FEWEST_ROUNDS} rounds were possible in the time"
    best, least = 0, 1 - MARGIN
    for index, other in enumerate(others, 1):
        # Within a round, what slows the machine slows both. The last round may have ended for one of them only.
        ratios = [b / a for a, b in zip(own.rounds, other.rounds, strict=False)]
        if other.fault is not None or len(ratios) < FEWEST_ROUNDS:
            continue
        ratio = statistics.median(ratios)
        noise = statistics.median(abs(one - ratio) for one in ratios)
        if ratio + 2 * noise >= 1:
            continue
        share = _share(own, other, ratio, batches)
        if share < least:
            best, least = index, share
    if not best:
        return 0, f"nothing else saves {MARGIN:.0%} of the run"
    return best, f"saves {1 - least:.0%} of the run"


def _share(own: Measured, other: Measured, ratio: float, batches: float) -> float:
    """Estimate how many times as long as with its own settings the whole run takes, preparations included."""
    step = own.seconds_per_step
    assert step is not None
    if batches == float("inf"):
        return ratio
    whole = (own.seconds_to_prepare or 0.0) + batches * step
    return ((other.seconds_to_prepare or 0.0) + batches * step * ratio) / whole
