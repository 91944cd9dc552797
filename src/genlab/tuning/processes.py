"""Start the processes of candidates, and talk to them."""

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from omegaconf import OmegaConf

from genlab.machine.files import write_atomically
from genlab.machine.process import OF_RUN, RANKS
from genlab.runs.folder import CONFIG, RunFolder
from genlab.tuning.candidates import Candidate
from genlab.tuning.measuring import TrialError


class Process:
    """A candidate's training in a process of its own, which can be ended while it compiles.

    Args:
        folder: folder with its config.
    """

    def __init__(self, folder: Path) -> None:
        environment = {name: value for name, value in os.environ.items() if name not in (*RANKS, OF_RUN)}
        self._log = (folder / "log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", "genlab.tuning.trial", str(folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            env=environment,
            start_new_session=True,  # so that the compiler's workers end with it
            text=True,
            encoding="utf-8",
        )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._listen, name="genlab-trial", daemon=True).start()

    def first_steps(self, within: float) -> tuple[float, int, float] | None:
        answer = self._answer(within)
        return None if answer is None else (answer["first"], answer["steps"], answer["step"])

    def seconds_per_step(self, steps: int, within: float) -> float | None:
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):  # its answer, or that there is none, is then read
            self._process.stdin.write(f"{steps}\n")
            self._process.stdin.flush()
        answer = self._answer(within)
        return None if answer is None else float(answer["seconds"])

    def close(self) -> None:
        if self._process.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        for stream in (self._process.stdin, self._log):
            with suppress(OSError, ValueError):
                if stream is not None:
                    stream.close()

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _answer(self, within: float) -> Mapping[str, Any] | None:
        try:
            line = self._answers.get(timeout=max(within, 1e-3))
        except queue.Empty:
            return None
        if not line:
            raise TrialError(f"its process ended with code {self._process.wait()}")
        answer = json.loads(line)
        if "failed" in answer:
            raise TrialError(answer["failed"])
        return answer


@contextmanager
def started(config: Mapping[str, Any]) -> Iterator[Callable[[Candidate], Process]]:
    """Give the function that starts a candidate's process; the processes' files are removed with the context.

    Args:
        config: config of the run, as plain values.
    """
    with TemporaryDirectory(prefix="genlab-tune-") as place:

        def start(candidate: Candidate) -> Process:
            folder = RunFolder.claim(Path(place, "run"))
            of_candidate = {
                **config,
                "run_dir": str(folder.path),
                "trainer": {**config["trainer"], **candidate.settings()},
            }
            write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(of_candidate)))
            return Process(folder.path)

        yield start
