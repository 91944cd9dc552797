"""Exceptions that are not bugs: a user's wrong input, a run that a signal stopped, one that diverged, lost output."""

import signal
from typing import Any


class Interrupted(BaseException):
    """The end of a run that a signal asked to stop, raised after the run saved what it needs to continue.

    Attributes:
        number: number of the signal.
        handler: signal handler installed before ours; submitit uses it to put the job back into the queue.
    """

    def __init__(self, number: int, handler: Any = None) -> None:
        super().__init__(signal.Signals(number).name)
        self.number, self.handler = number, handler

    def pass_on(self) -> None:
        """Call the signal handler installed before ours; submitit's puts the job back into the queue."""
        if callable(self.handler) and self.handler is not signal.default_int_handler:
            self.handler(self.number, None)


class OutputLost(BaseException):
    """The end of a command whose output nobody reads any more, as that of ``genlab compare RUNS | head``."""


class InputError(ValueError):
    """An error in what the user gave, such as a config value, data or a run folder.

    The message is one line that says what is wrong and what to do next. The command line prints it and exits with
    code 2; from Python it is an ordinary ``ValueError``.
    """


class Diverged(ArithmeticError):  # noqa: N818, as Python's KeyboardInterrupt
    """Divergence of a training whose loss, or weights, became NaN or infinite.

    Args:
        what: what is not finite, such as ``train/loss is nan``.
        images_seen: number of images seen until then.
        steps: number of batches seen until then.
    """

    def __init__(self, what: str, images_seen: int, steps: int) -> None:
        super().__init__(
            f"the training diverged: {what} after {images_seen:,} images ({steps:,} batches); try a lower "
            "training.optimizer.lr (of a GAN, training.generator_optimizer.lr), training.gradient_clip=1, or "
            "trainer.precision=32-true"
        )
        self.what = what


class RunFailed(RuntimeError):  # noqa: N818, as Diverged
    """The end of a run in another process of it; the message says why, as far as that process could."""
