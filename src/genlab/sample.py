"""``genlab sample FOLDER n=64``: draw samples from a run's checkpoint, from its folder alone."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig

from genlab.composition.command_line import path_as
from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors

if TYPE_CHECKING:
    from genlab.views.view import View
    from genlab.views.write import Write


def main() -> None:
    """Run the command on this process's command line, with the path of the run rewritten as Hydra's override."""
    path_as("run")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="sample")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    sample(cfg)


def sample(cfg: DictConfig) -> None:
    """Write samples as a picture and an array, or as text; the same seed gives the same samples.

    Args:
        cfg: composed config of ``genlab sample``.

    Raises:
        InputError: if the run cannot be opened, or an option does not apply to its model or data.
    """
    from genlab.composition.building import build, plain
    from genlab.composition.trust import own
    from genlab.errors import InputError
    from genlab.machine.devices import tune_processor
    from genlab.machine.process import keep_freed_memory
    from genlab.models.base import Writes
    from genlab.runs.given import given_runs
    from genlab.runs.loading import Weights, load

    own(cfg)
    config = plain(
        cfg,
        run=str,
        checkpoint=str,
        weights=Weights,
        output=str | None,
        prompt=str | None,
        n=int | None,
        steps=int | None,
        draws=int,
        sampling=dict[str, Any],
        temperature=float | None,
        top_k=int | None,
        top_p=float | None,
    )
    counts = {key: config[key] for key in ("n", "steps", "draws") if config[key] is not None}
    if lowest := [f"{key}={value}" for key, value in counts.items() if value < 1]:
        raise InputError(f"{lowest[0]}: give a number of samples, 1 or more")
    short = {key: config[key] for key in ("temperature", "top_k", "top_p") if config[key] is not None}
    sampling = {**config["sampling"], **short}
    # Keys of the command become the view's options; a null key leaves the view's own default in place.
    view: View = build({key: value for key, value in config["view"].items() if value is not None}, "")
    runs = given_runs([config["run"]])
    if len(runs) > 1:
        raise InputError(f"{config['run']} has {len(runs)} runs: give one of them, such as {runs[0]}")
    keep_freed_memory()
    tune_processor()
    run = load(runs[0], config["checkpoint"], config["weights"], config["device"], sampling=sampling)
    if isinstance(run.model, Writes):
        if view.mode != "grid":
            raise InputError(f"mode={view.mode} is for images; this run's model writes text: give prompt=...")
        text: Write = build({key: value for key, value in config["text"].items() if value is not None}, "")
        text.to_terminal(run, Path(config["output"] or run.folder.samples / f"{text.name}.txt"))
        return
    if config["prompt"] is not None:
        raise InputError("prompt: this run's model writes no text")
    view.check(run)
    view.check_memory(run)
    target = Path(config["output"] or run.folder.samples / f"{view.name}.png")
    if target.suffix != ".png":
        raise InputError(f"output={target}: give the name of a .png file")
    print("\n".join(map(str, view.show(run).save(target, run.modality))))


if __name__ == "__main__":
    main()
