"""``genlab train``: compose a model, a dataset and a trainer, train the model and measure it."""

import sys
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors
from genlab.errors import Interrupted
from genlab.launching.sweeps import finished, swept_folder

if TYPE_CHECKING:
    from genlab.launching.objects import Objects


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="train")
@one_line_errors
def _main(cfg: DictConfig) -> float | None:
    try:
        return train(cfg)
    except Interrupted as stop:
        stop.pass_on()  # here and not in main(), because launchers call this function without main()
        raise


def main() -> None:
    """Run the command; if a signal ended it, exit with 128 + the signal's number."""
    from genlab.machine.outcome import tell

    try:
        with finished():
            _main()
    except (Interrupted, KeyboardInterrupt) as stop:
        if swept_folder() is None:
            from genlab.launching.told import say_how_to_go_on  # here, so that --help and --cfg do not wait for it

            say_how_to_go_on()
        if not isinstance(stop, Interrupted):
            raise
        tell(error={"kind": "interrupted", "message": str(stop)})
        sys.exit(128 + stop.number)
    finally:
        if (folder := swept_folder()) is not None:
            from genlab.launching.told import of_sweep

            tell(**of_sweep(folder))


def train(cfg: DictConfig, objects: "Objects | None" = None) -> float | None:
    """Train, measure and write the run folder.

    An existing folder, given by ``resume=`` or found by a sweep that is launched again, is continued.

    Args:
        cfg: composed config of ``genlab train``.
        objects: callbacks and loggers beside those of the config, for a single run.

    Returns:
        The best value of the monitored metric, which a sweeper optimizes, or None if there is none.

    Raises:
        InputError: if anything in the config is wrong; raised before a folder is made or a step is taken.
        Interrupted: if a signal ended the run, after its state was saved.
    """
    from genlab.composition.trust import own
    from genlab.launching.begin import begin, planned_folder
    from genlab.launching.objects import NONE
    from genlab.launching.options import overrides, take_force
    from genlab.launching.resume import job_of_sweep, resume_alone
    from genlab.launching.told import of_run
    from genlab.machine.outcome import tell
    from genlab.machine.process import keep_freed_memory, quiet_libraries
    from genlab.runs.folder import RunFolder

    quiet_libraries()
    keep_freed_memory()
    own(cfg)
    force = take_force(cfg)
    if HydraConfig.get().mode == RunMode.MULTIRUN and cfg.resume is None:
        return job_of_sweep(cfg, RunFolder(planned_folder(cfg)), force)
    try:
        if cfg.resume is not None:
            return resume_alone(RunFolder.open(str(cfg.resume)), overrides(without="resume"), force, objects or NONE)
        return begin(cfg, planned_folder(cfg), objects or NONE)
    finally:
        tell(**of_run(str(cfg.resume or cfg.run_dir or "")))


if __name__ == "__main__":
    main()
