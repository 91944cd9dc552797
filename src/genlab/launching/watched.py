"""A launcher around any other one, which shows the jobs that the other one runs.

Hydra imports this module at every start, so nothing heavy is imported at the top.
"""

import logging
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict

NAME = "hydra_plugins.genlab_watched.Watched"


class Watched(Launcher):
    """A Hydra launcher that shows a sweep while the launcher that was chosen runs it.

    Args:
        launched_by: class of that launcher.
        **options: its options.
    """

    def __init__(self, launched_by: str, **options: Any) -> None:
        self.launched_by = launched_by
        self.launcher: Launcher | None = None

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        unwatch(config)
        # A list of all jobs, a line for each, would scroll the sweep away.
        logging.getLogger("hydra_plugins").setLevel(logging.WARNING)
        self.config = config
        self.launcher = Plugins.instance().instantiate_launcher(hydra_context, task_function, config)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from genlab.launching.board import Board
        from genlab.launching.job_log import OWN_LOGS, STATES, leave_output
        from genlab.launching.killed import said_in_a_line
        from genlab.launching.show_sweep import shown
        from genlab.launching.sweeps import done_jobs

        assert self.launcher is not None
        if self._is_in_turn():
            leave_output()
            return self.launcher.launch(job_overrides, initial_job_idx)
        folder = Path(self.config.hydra.sweep.dir)
        shutil.rmtree(folder / STATES, ignore_errors=True)  # of an earlier launch that was killed
        numbers = range(initial_job_idx, initial_job_idx + len(job_overrides))
        total = max(numbers.stop, int(self.config.hydra.sweeper.get("n_trials", 0)))
        board = Board(folder, initial_job_idx, job_overrides, total, done_jobs(folder, numbers))
        try:
            with shown(board, OWN_LOGS in self.launched_by), said_in_a_line(folder):
                return self.launcher.launch(job_overrides, initial_job_idx)
        finally:
            shutil.rmtree(folder / STATES, ignore_errors=True)

    def _is_in_turn(self) -> bool:
        """Tell whether one job runs after the other in this process, as joblib's do if there is one at a time."""
        if (options := getattr(self.launcher, "joblib", None)) is None:
            return False
        from joblib import effective_n_jobs

        return bool(effective_n_jobs(options.get("n_jobs", 1)) == 1)


def watch(config: DictConfig) -> None:
    """Put :class:`Watched` around the launcher of a composed config, in place.

    Args:
        config: composed config of a sweep, with Hydra's own.
    """
    _replace(config, lambda target, options: {"_target_": NAME, "launched_by": target, **options})


def unwatch(config: DictConfig) -> None:
    """Take :class:`Watched` away from the launcher of a composed config, in place.

    Args:
        config: composed config of a sweep, with Hydra's own.
    """
    _replace(config, lambda _, options: {"_target_": options.pop("launched_by"), **options})


def _replace(config: DictConfig, change: Callable[[str, dict[str, Any]], dict[str, Any]]) -> None:
    """Replace the config of a launcher, which has a type that knows no further keys."""
    options: Any = OmegaConf.to_container(config.hydra.launcher, resolve=False)
    with open_dict(config):
        config.hydra.launcher = change(options.pop("_target_"), options)
