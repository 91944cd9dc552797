"""``genlab train``: compose a model, a dataset and a trainer, train the model and measure it."""

import sys
from typing import TYPE_CHECKING

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from genlab.composition.command_line import spelled
from genlab.composition.configs import composed, conf_dir
from genlab.composition.explaining import explain, one_line_errors
from genlab.errors import InputError, Interrupted
from genlab.launching.sweeps import finished

if TYPE_CHECKING:
    from genlab.runs.loading import Run


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
    try:
        with finished():
            _main()
    except Interrupted as stop:
        sys.exit(128 + stop.number)


def train(cfg: DictConfig) -> float | None:
    """Train, measure and write the run folder.

    An existing folder, given by ``resume=`` or found by a sweep that is launched again, is continued.

    Args:
        cfg: composed config of ``genlab train``.

    Returns:
        The best value of the monitored metric, which a sweeper optimizes, or None if there is none.

    Raises:
        InputError: if anything in the config is wrong; raised before a folder is made or a step is taken.
        Interrupted: if a signal ended the run, after its state was saved.
    """
    from genlab.composition.trust import own
    from genlab.launching.begin import begin, planned_folder
    from genlab.launching.options import overrides, take_force
    from genlab.launching.resume import job_of_sweep, resume_alone
    from genlab.machine.process import keep_freed_memory, quiet_libraries
    from genlab.runs.folder import RunFolder

    quiet_libraries()
    keep_freed_memory()
    own(cfg)
    force = take_force(cfg)
    if cfg.resume is not None:
        return resume_alone(RunFolder.open(str(cfg.resume)), overrides(without="resume"), force)
    planned = planned_folder(cfg)
    if HydraConfig.get().mode == RunMode.MULTIRUN:
        return job_of_sweep(cfg, RunFolder(planned), force)
    return begin(cfg, planned)


def launch(*overrides: str) -> "Run":
    """Train from Python as ``genlab train`` does, and give the finished run.

    Args:
        *overrides: overrides as on the command line, such as ``"model=vae/vae"``.

    Raises:
        InputError: if an override or a value is wrong.
    """
    from genlab.runs.loading import load

    try:
        cfg = composed("train", spelled("train", overrides))
    except Exception as error:
        if (line := explain(error)) is None:
            raise
        raise InputError(line) from error
    train(cfg)
    return load(cfg.run_dir or cfg.resume)


if __name__ == "__main__":
    main()
