"""The run and the view that the config of ``genlab sample`` asks for."""

from typing import Any

from omegaconf import DictConfig

from genlab.composition.building import build, plain
from genlab.composition.trust import own
from genlab.errors import InputError
from genlab.machine.devices import tune_processor
from genlab.machine.process import keep_freed_memory
from genlab.models.abilities import Writes
from genlab.runs.given import given_runs
from genlab.runs.loading import Run, Weights, load
from genlab.views.view import View
from genlab.views.write import Write


def opened(cfg: DictConfig) -> tuple[Run, View | Write, str | None]:
    """Open the run that a composed config names, and build the way to look at it.

    Args:
        cfg: composed config of ``genlab sample``.

    Returns:
        The run, its view, or what lets a model of text write, and the file to write to if one was given.

    Raises:
        InputError: if the run cannot be opened, or an option does not apply to its model or data.
    """
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
        return run, text, config["output"]
    if config["prompt"] is not None:
        raise InputError("prompt: this run's model writes no text")
    view.check(run)
    view.check_memory(run)
    return run, view, config["output"]
