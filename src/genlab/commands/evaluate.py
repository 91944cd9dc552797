"""``genlab evaluate RUN...``, ``RUN... images=DIR`` or ``real=DIR fake=DIR``: measure runs, folders or two sets."""

from typing import Any, Literal

import hydra
from omegaconf import DictConfig

from genlab.composition.command_line import lists_of, paths_as
from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors
from genlab.evaluating.evaluated import Evaluated
from genlab.machine.outcome import tell


def main() -> None:
    """Run the command on this process's command line, with paths and lists rewritten as Hydra's overrides."""
    paths_as("run")
    lists_of("sampling.")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="evaluate")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    tell(evaluations=[one.to_json() for one in evaluate(cfg)])


def evaluate(cfg: DictConfig) -> list[Evaluated]:
    """Measure, print the figures and write them to an ``evaluation.json``.

    A run's figures are written to the run's folder, those of a folder of images to a new folder. The same command
    gives the same numbers every time. If a run cannot be measured, the other runs still are.

    Args:
        cfg: composed config of ``genlab evaluate``.

    Returns:
        The evaluations in their order.

    Raises:
        InputError: if something could not be measured, after everything else was.
    """
    from pydantic import PositiveInt

    from genlab.comparison.quality import draw_quality
    from genlab.composition.building import plain
    from genlab.composition.trust import own
    from genlab.errors import InputError
    from genlab.evaluating.pair import evaluate_pair
    from genlab.evaluating.run import evaluate_run
    from genlab.machine.devices import tune_processor
    from genlab.machine.process import keep_freed_memory, quiet_libraries
    from genlab.runs.given import given_runs

    own(cfg)
    config = plain(
        cfg,
        run=list[str] | str | None,
        real=str | None,
        fake=str | None,
        shape=tuple[PositiveInt, PositiveInt, PositiveInt] | None,
        images=str | None,
        checkpoint=str,
        weights=Literal["auto", "ema", "raw", "both"] | float | list[float],
        sampling=dict[str, Any],
        device=str,
        devices=PositiveInt,
    )
    quiet_libraries()
    keep_freed_memory()
    tune_processor()
    runs = given_runs([config["run"]] if isinstance(config["run"], str) else config["run"] or [])
    pair = [config[name] for name in ("real", "fake") if config[name] is not None]
    if bool(runs) == bool(pair) or len(pair) == 1:
        raise InputError("give runs (genlab evaluate FOLDER...), or real=DIR and fake=DIR")
    if runs and config["shape"]:
        raise InputError("shape=[C,H,W] is that of two folders: a run's images have the shape of its data")
    if pair and config["images"]:
        raise InputError("images=DIR is measured by a run: give one (genlab evaluate FOLDER... images=DIR)")
    if pair:
        return [evaluate_pair(config)]
    found, failed = list[Evaluated](), list[str]()
    for run in runs:
        try:
            found += evaluate_run(run, config)
            if any(isinstance(value, list) for value in config["sampling"].values()):
                draw_quality(run)
        except InputError as error:
            if len(runs) == 1:
                raise
            failed.append(f"{run}: {error}")
    if failed:
        raise InputError(f"{len(failed)} of {len(runs)} could not be measured: " + "; ".join(failed))
    return found


if __name__ == "__main__":
    main()
