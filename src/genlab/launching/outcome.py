"""How a run of several processes ended, and which of them failed first."""

import json
import re
import signal
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from genlab.launching.nodes import DEAD, Nodes
from genlab.machine.plain_text import on_one_line

# What the libraries say in a process that has lost another one.
_LOST = re.compile(
    r"closed by peer|reset by peer|Broken pipe|Connection refused|Connection was likely closed|NCCL|"
    r"gloo|remote (?:process|server)|[Tt]imed out waiting",
)
How = Literal["killed", "raised", "lost"]
_ORDER: dict[str, int] = {"killed": 0, "raised": 1, "lost": 2}


@dataclass(frozen=True)
class Failure:
    """The failure of processes on one machine.

    Attributes:
        how: ``"killed"`` by a signal, ``"raised"`` an error, or ``"lost"`` another process.
        text: what happened, in one line.
    """

    how: How
    text: str

    @classmethod
    def of_code(cls, code: int) -> "Failure":
        """Describe that torchrun ended with a code, and did not say more."""
        return cls("raised", f"a process died: torchrun ended with code {code}")


@dataclass(frozen=True)
class Outcome:
    """The end of a run.

    Attributes:
        word: ``"done"``, ``"interrupted"`` or ``"failed"``.
        reason: why it did not come to its end; empty if it is done.
        number: signal that interrupted it.
        best: best value of the monitored metric.
    """

    word: str
    reason: str = ""
    number: int = int(signal.SIGTERM)
    best: float | None = None

    def words(self) -> dict[str, Any]:
        """Give what the other nodes are told."""
        return asdict(self)

    @classmethod
    def of_words(cls, words: Mapping[str, Any]) -> "Outcome":
        """Read what node 0 has told."""
        return cls(
            words.get("word", "failed"),
            words.get("reason", ""),
            int(words.get("number", signal.SIGTERM)),
            words.get("best"),
        )


def failure_of(report: Path, code: int, nodes: Nodes | None, given_up: bool = False) -> Failure | None:
    """Read which processes of this machine failed; None if none did.

    Args:
        report: file that :mod:`genlab.launching.agent` writes.
        code: exit code of torchrun.
        nodes: nodes of the run; None for one machine.
        given_up: whether torchrun was ended because another node is gone or has failed.
    """
    where = "" if nodes is None else f" of {nodes.name(nodes.rank)}"
    found = []
    with suppress(OSError, ValueError):
        for one in json.loads(report.read_text(encoding="utf-8")):
            found.append(_failure(one, where))
    if found:
        return min(found, key=lambda failure: _ORDER[failure.how])
    if code == 0:
        return None
    return Failure("lost" if given_up else "killed", f"torchrun{where} ended with code {code}")


def _failure(one: Mapping[str, Any], where: str) -> Failure:
    code, process = one["exit_code"], f"process {one['rank']}{where}"
    if code < 0:
        # torchrun ends the others by SIGTERM, which therefore says little.
        how: How = "lost" if -code == signal.SIGTERM else "killed"
        with suppress(ValueError):
            return Failure(how, f"{process} was killed ({signal.Signals(-code).name})")
        return Failure(how, f"{process} was killed (signal {-code})")
    message = str(one.get("message") or "")
    line = next((text for text in reversed(message.splitlines()) if text.strip()), "")
    line = on_one_line(line)[:300] or f"it ended with code {code}"
    return Failure("lost" if _LOST.search(message) else "raised", f"{process}: {line}")


def first_failure(here: Failure, reason: str | None, nodes: Nodes | None) -> str:
    """Find out what happened first: the other failures are of processes that have lost that one.

    Args:
        here: failure of the processes of this machine, which is the first node or the only one.
        reason: reason that the first process has written to the run's status.
        nodes: nodes of the run; None for one machine.
    """
    if reason is not None:
        own = Failure("lost" if _LOST.search(reason) else "raised", reason)
        here = min(own, here, key=lambda failure: _ORDER[failure.how])
    if nodes is None or here.how == "killed":
        return here.text
    until = time.monotonic() + DEAD + 5
    others = range(1, nodes.num)
    while time.monotonic() < until:
        ends = nodes.ends()
        killed = any(end.get("how") == "killed" for end in ends.values())
        if killed or nodes.silent() or (len(ends) == len(others)) or here.how == "raised":
            break
        time.sleep(0.2)
    found = [here]
    for end in nodes.ends().values():
        if end.get("reason"):
            found.append(Failure(end.get("how", "raised"), str(end["reason"])))
    for i in sorted(nodes.silent()):
        return f"{nodes.name(i)} died: no sign of life for {DEAD:.0f} s"
    return min(found, key=lambda failure: _ORDER[failure.how]).text
