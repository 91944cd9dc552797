"""Time candidates in turns, round after round, within a number of seconds."""

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import Protocol

from genlab.tuning.candidates import Candidate
from genlab.tuning.choosing import FEWEST_ROUNDS, Measured

MOST_ROUNDS = 7
TURN = 1.0  # seconds of a turn, at most
# Share of the time after which no candidate is waited for any more; the rest is for the rounds.
TO_PREPARE = 0.7


class TrialError(Exception):
    """A candidate's process has ended; the text is the reason in one line."""


class Contender(Protocol):
    """A candidate's training on a copy of the model, which stands still between its turns."""

    def first_steps(self, within: float) -> tuple[float, int, float] | None:
        """Wait for the first steps; None if they do not end within some seconds.

        Returns:
            The seconds that they took, their number, and the seconds of a step after them.

        Raises:
            TrialError: if the process has ended.
        """

    def seconds_per_step(self, steps: int, within: float) -> float | None:
        """Take some steps, and give the seconds of one; None if they do not end within some seconds.

        Raises:
            TrialError: if the process has ended.
        """

    def close(self) -> None:
        """End the process, whatever it does."""


def measure(
    candidates: Sequence[Candidate],
    start: Callable[[Candidate], Contender],
    allowed: Callable[[float | None], float],
    clock: Callable[[], float] = time.monotonic,
) -> list[Measured]:
    """Measure candidates; one that is not ready in time, or fails, gets a fault and is ended.

    Args:
        candidates: candidates, the run's own first; without it, nothing is measured.
        start: function that starts a candidate's process and returns at once.
        allowed: function from the seconds of a step of the run's own candidate, None before they are known, to the
            seconds that all of this may take.
        clock: clock in seconds.

    Returns:
        What was measured, in the order of the candidates.
    """
    began = clock()
    found = [Measured(candidate) for candidate in candidates]
    with ExitStack() as running:
        contenders = {}
        for one in found:
            contender = start(one.candidate)
            running.callback(contender.close)
            contenders[id(one)] = contender
        steps: dict[int, tuple[float, int, float]] = {}
        seconds = allowed(None)
        for one in found:
            try:
                first = contenders[id(one)].first_steps(max(0.0, began + TO_PREPARE * seconds - clock()))
            except TrialError as failure:
                one.fault = str(failure)
            else:
                if first is None:
                    one.fault = f"not ready within {clock() - began:.0f} s"
                else:
                    steps[id(one)] = first
            if one.fault is not None:
                contenders[id(one)].close()
            if one is found[0]:
                if one.fault is not None:
                    return found
                seconds = min(seconds, allowed(steps[id(one)][2]))
        able = [one for one in found if one.fault is None]
        if len(able) == 1:
            _take_turn(able[0], contenders[id(able[0])], 1, began + seconds - clock())
        else:
            _rounds(able, contenders, steps, began + seconds, clock)
    for one in found:
        if one.fault is None and one.seconds_per_step is not None:
            took, number, _ = steps[id(one)]
            one.seconds_to_prepare = max(0.0, took - number * one.seconds_per_step)
    return found


def _rounds(
    able: list[Measured],
    contenders: dict[int, Contender],
    first: dict[int, tuple[float, int, float]],
    until: float,
    clock: Callable[[], float],
) -> None:
    """Give every candidate a turn in each round; each round begins with the next one."""
    own = able[0]
    of_round = sum(max(first[id(one)][2], 1e-6) for one in able)
    in_time = max(0.0, until - clock()) / (MOST_ROUNDS * of_round)
    steps = max(1, int(min(in_time, TURN / max(first[id(own)][2], 1e-6))))
    for number in range(MOST_ROUNDS):
        began = clock()
        shift = number % len(able)
        for one in able[shift:] + able[:shift]:
            _take_turn(one, contenders[id(one)], steps, until - clock())
            if one.fault is not None:
                contenders[id(one)].close()
        if own.fault is not None:
            return
        able = [one for one in able if one.fault is None]
        took = clock() - began
        if len(able) == 1 or (number + 1 < MOST_ROUNDS and clock() + took > until):
            return


def _take_turn(one: Measured, contender: Contender, steps: int, within: float) -> None:
    try:
        seconds = contender.seconds_per_step(steps, max(0.0, within))
    except TrialError as failure:
        one.fault = str(failure)
        return
    if seconds is not None:
        one.rounds.append(seconds)
    elif len(one.rounds) < FEWEST_ROUNDS:
        one.fault = "its steps did not end in time"
