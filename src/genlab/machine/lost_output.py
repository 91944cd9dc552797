"""Output that nobody reads any more, as that of ``genlab compare RUNS | head``."""

import os
import select
import sys
from typing import Any


def is_lost(stream: Any) -> bool:
    """Tell whether a stream, such as standard output, is a pipe that nobody reads any more."""
    try:
        number = stream.fileno()
    except (AttributeError, OSError, ValueError):  # no file, such as a notebook's
        return False
    poll = select.poll()
    poll.register(number, select.POLLOUT)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def forget_lost_output() -> None:
    """Let standard output and error write nowhere from now on, if they are pipes that nobody reads any more.

    A command then ends without a word, as its last words would be an error, too.
    """
    for stream in (sys.stdout, sys.stderr):
        if is_lost(stream):
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, stream.fileno())
            os.close(nowhere)
