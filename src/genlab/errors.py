"""The exceptions that are neither a bug nor Python's own."""

import signal
from typing import Any


class Interrupted(BaseException):
    """The run was asked by a signal to stop, and saved what it needs to continue.

    Attributes:
        number: of the signal.
        handler: whose turn the signal would have been; a cluster's engine puts the job back into the queue with it.
    """

    def __init__(self, number: int, handler: Any = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.handler = number, handler

    def pass_on(self) -> None:
        """Give whoever's turn the signal would have been theirs; submitit's puts the job back into the queue."""
        if callable(self.handler) and self.handler is not signal.default_int_handler:
            self.handler(self.number, None)


class InputError(ValueError):
    """Something the user gave (a config value, data, a run folder) is wrong.

    The message is one line that says what is wrong and what to do next. The command line prints it and exits with
    code 2; from Python it is an ordinary ``ValueError``.
    """
