"""The minimal loop in a process of its own, with the settings of a user's script and none of genlab's.

genlab tunes its process for training: how memory is kept, how denormal numbers are treated, how Lightning looks for
GPUs. A loop in the same process would have all of it, and what slows both could not be seen.
"""

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from typing import Any

import torch

from genlab.speed.loops import plain_loop
from genlab.speed.rounds import synchronize
from genlab.speed.stages import stages


class PlainProcess:
    """The minimal loop of a config, in a process that waits between turns.

    Attributes:
        num_images: number of training images.
        batch_size: number of examples in a batch.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self.num_images, self.batch_size = self._answer()

    def seconds_per_step(self, steps: int) -> float:
        """Train for some steps, and give the seconds that a step takes on average."""
        return self._ask("seconds", steps)

    def stages(self, steps: int) -> dict[str, float]:
        """Train for some steps, and give the seconds of each stage of a step; only ``data`` for a game."""
        return self._ask("stages", steps)

    def _ask(self, what: str, steps: int) -> Any:
        self._connection.send((what, steps))
        return self._answer()

    def _answer(self) -> Any:
        try:
            answer = self._connection.recv()
        except EOFError:
            raise RuntimeError("the process of the plain loop has ended") from None
        if isinstance(answer, str):
            raise RuntimeError(f"the plain loop failed:\n{answer}")
        return answer


@contextmanager
def plain_process(config: dict[str, Any], device: torch.device) -> Iterator[PlainProcess]:
    """Start the minimal loop of a config in another process, which ends with the context.

    Args:
        config: config of ``genlab train``, resolved.
        device: device to train on.
    """
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(theirs, config, str(device)), daemon=True)
    process.start()
    theirs.close()
    try:
        yield PlainProcess(ours)
    finally:
        ours.close()
        process.join(5)
        process.kill()


def _serve(connection: Connection, config: dict[str, Any], device: str) -> None:
    from genlab.training.parts import assemble

    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)  # set by Lightning when it is imported
    try:
        parts = assemble(config)
        plain = plain_loop(parts.training, parts.data, torch.device(device))
        plain.step(*plain.batch())  # the first step also allocates memory
        connection.send((len(plain.images), plain.batch_size))
        tasks: dict[str, Callable[[int], Any]] = {
            "seconds": plain.seconds_per_step,
            "stages": lambda steps: stages(plain, steps),
        }
        while True:
            what, steps = connection.recv()
            connection.send(tasks[what](steps))
            synchronize(plain.device)
    except (EOFError, KeyboardInterrupt, BrokenPipeError):
        pass  # the other side is done
    except Exception:
        connection.send(traceback.format_exc())
