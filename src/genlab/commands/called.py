"""Trainings begun from Python instead of the command line: a single run, and a sweep."""

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from genlab.commands.train import _main, train
from genlab.composition.command_line import spelled
from genlab.composition.explaining import explain
from genlab.composition.from_python import composed_by
from genlab.errors import InputError
from genlab.launching.sweeps import finished, swept_folder

if TYPE_CHECKING:
    from genlab.launching.objects import Objects
    from genlab.runs.loading import Run


def launch(*overrides: str, objects: "Objects | None" = None) -> "Run":
    """Train from Python as ``genlab train`` does, which prints the figures, and give the finished run.

    Args:
        *overrides: overrides as on the command line, such as ``"model=vae/vae"``.
        objects: callbacks and loggers beside those of the config.

    Raises:
        InputError: if an override or a value is wrong.

    Examples:
        >>> import genlab, sys
        >>> from contextlib import redirect_stdout
        >>> with redirect_stdout(sys.stderr):
        ...     run = genlab.launch("model=flow/real_nvp", "model.width=4", "debug=fast_dev_run")
        >>> run.status
        'done'
    """
    from genlab.runs.loading import load

    cfg = composed_by("train", overrides)
    train(cfg, objects)
    return load(cfg.run_dir or cfg.resume)


def sweep_folder(overrides: Sequence[str]) -> Path:
    """Run a sweep from Python as ``genlab train -m`` does, and give its folder.

    Args:
        overrides: overrides as on the command line, of which some have several values.

    Raises:
        InputError: if an override is wrong, or a job failed; the other jobs have run.
    """
    arguments, full = sys.argv, os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # makes Hydra raise its errors
    try:
        sys.argv = [str(sys.modules[train.__module__].__file__), *spelled("train", ["-m", *overrides])]
        with finished():
            _main()
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        raise InputError(line) from error
    finally:
        sys.argv = arguments
        if full is None:
            del os.environ["HYDRA_FULL_ERROR"]
    folder = swept_folder()
    assert folder is not None
    return folder
