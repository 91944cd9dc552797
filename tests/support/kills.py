"""Ends of a process at a chosen moment."""

import os
import signal
from collections.abc import Callable
from typing import Any


def kill_at(target: str, call: int, number: int = signal.SIGKILL, after: bool = False) -> Callable[[], None]:
    """A trap: the process kills itself at the n-th call of ``module.Class.method``."""

    def set_trap() -> None:
        import importlib

        where, name = target.rsplit(".", 1)
        try:
            owner: Any = importlib.import_module(where)
        except ModuleNotFoundError:
            module, kind = where.rsplit(".", 1)
            owner = getattr(importlib.import_module(module), kind)
        original, count = getattr(owner, name), iter(range(1, 10**6))

        def trapped(*args: Any, **kwargs: Any) -> Any:
            hit = next(count) == call
            if hit and not after:
                os.kill(os.getpid(), number)
            result = original(*args, **kwargs)
            if hit and after:
                os.kill(os.getpid(), number)
            return result

        setattr(owner, name, trapped)

    return set_trap
