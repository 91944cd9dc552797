"""What a job tells the process that shows its sweep: a small file, written over at most once a second.

Processes that a job starts tell the same file, as they inherit its environment.
"""

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

FILE = "GENLAB_TELL"  # environment variable that names the file
EVERY = 1.0  # seconds between two writings

_state: dict[str, Any] = {}
_last = 0.0


def begin_telling(file: Path) -> None:
    """Tell a file from now on; its folder is made.

    Args:
        file: path of the file.
    """
    os.environ[FILE] = str(file)
    _state.clear()
    with suppress(OSError):  # a full disk is the run's to complain about
        file.parent.mkdir(parents=True, exist_ok=True)
    tell_now(state="running", began=time.time())


def tell(**state: Any) -> None:
    """Tell the state of this job, if somebody shows it, and if none was told in the last second.

    Args:
        **state: values that changed, such as ``stage`` (what is done now), ``fraction`` (share of the stage that is
            done), ``left`` (seconds left of it) and ``trained`` (share of the training that is done).
    """
    if FILE in os.environ and time.monotonic() - _last >= EVERY:
        tell_now(**state)


def tell_now(**state: Any) -> None:
    """Tell the state of this job at once, as :func:`tell` does; for its begin and end."""
    global _last
    if (file := os.environ.get(FILE)) is None:
        return
    _last = time.monotonic()
    if not _state:  # a process that the job has started
        _state.update(told(Path(file)) or {})
    _state.update(state)
    with suppress(OSError):  # nobody shows the sweep any more
        Path(file).write_text(json.dumps(_state), encoding="utf-8")


def end_telling(**state: Any) -> None:
    """Tell how the job ended, and nothing more.

    Args:
        **state: values as in :func:`tell`.
    """
    tell_now(ended=time.time(), **state)
    os.environ.pop(FILE, None)


def told(file: Path) -> Mapping[str, Any] | None:
    """Read what a job told last; None if it is just being written, or is not there.

    Args:
        file: path of the file.
    """
    with suppress(OSError, ValueError):
        content = json.loads(file.read_text(encoding="utf-8"))
        return content if isinstance(content, dict) else None
    return None
