"""Several machines on this one: the command once for each node, which meet at a port of this machine."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path


class Node:
    """``genlab train`` on one node, in a process group of its own.

    Attributes:
        process: its process.
        log: what it has printed.
    """

    started: list["Node"] = []

    def __init__(self, outputs: Path, *arguments: str, **environment: str) -> None:
        self.log = outputs.parent / f"node-{len(self.started)}.log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "genlab", "train", *arguments],
                env={**os.environ, "GENLAB_OUTPUTS": str(outputs), "COLUMNS": "200", **environment},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.started.append(self)

    @property
    def text(self) -> str:
        return self.log.read_text()

    def end(self, seconds: float = 240) -> int:
        return self.process.wait(seconds)

    def kill(self) -> None:
        """End it as if its machine had lost power: nothing of it is asked."""
        os.killpg(self.process.pid, signal.SIGKILL)

    def until(self, what: Callable[[], bool], seconds: float = 240) -> None:
        """Wait for something to happen while it runs."""
        end = time.monotonic() + seconds
        while not what():
            assert self.process.poll() is None, self.text
            assert time.monotonic() < end, self.text
            time.sleep(0.05)

    @classmethod
    def end_all(cls) -> None:
        for node in cls.started:
            with suppress(ProcessLookupError):
                os.killpg(node.process.pid, signal.SIGKILL)
            node.process.wait()
        cls.started.clear()


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("", 0))
        return int(one.getsockname()[1])


def nodes(outputs: Path, *arguments: str, num: int = 2, **environment: str) -> list[Node]:
    """Start the same command on several nodes; the first is node 0."""
    address = f"localhost:{free_port()}"
    found = []
    for rank in range(num):
        place = {"MASTER_ADDR": "localhost", "MASTER_PORT": address.rpartition(":")[2], "RANK": str(rank)}
        found.append(Node(outputs, *arguments, f"trainer.num_nodes={num}", **place, **environment))
    return found
