"""The torchrun of a run on one machine: ``python -m genlab.launching.agent REPORT torchrun's arguments``.

It ends with the process that started it, and its processes end with it, so that nothing goes on in a folder that this
process has let go. If processes fail, it writes to the file REPORT which ones, and how.
"""

import json
import logging
import signal
import sys
from pathlib import Path
from types import FrameType

from torch.distributed import run
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

from genlab.machine.process import SIGNALS, end_with_parent


def main() -> None:
    """Run torchrun; signals are left to the process that started this one, which passes them on to the first process.

    torchrun itself would not give the processes time to save, and it may get signals too: Ctrl-C goes to all processes
    of a terminal, and SLURM's go to all of a job's step.
    """
    end_with_parent()
    report, *arguments = sys.argv[1:]
    for number in SIGNALS:
        signal.signal(number, _nothing)
    if "--signals-to-handle" in run.get_args_parser().format_help():  # newer versions of torch
        arguments = ["--signals-to-handle=SIGHUP", *arguments]
    # The other nodes wait for the one that measures; after five minutes, torchrun would tell a long story about it.
    logging.getLogger("torch.distributed.elastic.agent.server.api").addFilter(
        lambda record: "exit barrier" not in record.getMessage()
    )
    try:
        run.main(arguments)
    except ChildFailedError as error:
        failures = [
            {"rank": rank, "exit_code": failure.exitcode, "message": failure.message}
            for rank, failure in sorted(error.failures.items())
        ]
        Path(report).write_text(json.dumps(failures), encoding="utf-8")
        raise


def _nothing(number: int, frame: FrameType | None) -> None:
    """Handle a signal by doing nothing; in the processes that are started, it has its usual effect again."""


if __name__ == "__main__":
    main()
