"""The command in forks of this process, which has imported everything: one process of a run, or all of them."""

import contextlib
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import Any


def in_child(arguments: Sequence[str], trap: Callable[[], None] | None = None) -> int:
    """Run the command in a fork of this process, which has imported everything; gives its exit code, -9 if killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            devnull = os.open(os.environ.get("GENLAB_TEST_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(devnull, 1)
            os.dup2(devnull, 2)
            sys.stdout = sys.stderr = os.fdopen(devnull, "a", buffering=1)  # pytest's are its own
            from genlab.cli import main

            if trap is not None:
                trap()
            main(list(arguments))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        _, status = os.waitpid(pid, 0)
    except BaseException:  # the test's time is up
        os.kill(pid, signal.SIGKILL)
        raise
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


TWO = ("trainer=ddp_cpu", "trainer.devices=2")


def forked() -> None:
    """A trap: a run's processes are forks of this one, with torchrun's environment, and not new interpreters."""
    import genlab.launching.processes

    def start(folder: Any, num: int, *_: Any) -> float | None:
        from genlab.runs.folder import CONFIG, STATUS

        children = []
        for rank in range(num):
            pid = os.fork()
            if pid == 0:
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(num), "LOCAL_WORLD_SIZE": str(num),
                    "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getppid() % 20000),
                    "TORCHELASTIC_RUN_ID": "test", "GENLAB_RUN": str(folder.path),
                }  # fmt: skip
                code = 1
                try:
                    import yaml

                    from genlab.errors import Interrupted
                    from genlab.launching.job import work

                    with contextlib.suppress(Interrupted):
                        work(folder, yaml.safe_load((folder.path / CONFIG).read_text()))
                    code = 0
                finally:
                    if code:
                        import traceback

                        traceback.print_exc()
                    os._exit(code)
            children.append(pid)
        for pid in children:
            os.waitpid(pid, 0)
        status = folder.read_json(STATUS)["status"]
        if status != "done":
            raise SystemExit(143 if status == "interrupted" else 1)
        return None

    genlab.launching.processes._torchrun = start  # type: ignore[assignment]
