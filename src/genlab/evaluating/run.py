"""Measure a run by one of its checkpoints."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from genlab.composition.building import build
from genlab.composition.sampling import combinations, sampling_settings
from genlab.errors import InputError
from genlab.evaluating.evaluated import Evaluated
from genlab.evaluating.images import evaluate_images
from genlab.evaluating.spread import Devices, spread
from genlab.metrics.display import print_figures
from genlab.metrics.result import Result
from genlab.pictures.files import save_png
from genlab.runs.evaluations import record
from genlab.runs.folder import EVALUATION, STATUS, SUMMARY
from genlab.runs.loading import Run, load
from genlab.runs.verdicts import OTHER_DATA, Finished, Standing, standings
from genlab.views.nearest import beside_neighbours


def evaluate_run(path: str, config: dict[str, Any]) -> list[Evaluated]:
    """Measure a run, write its figures into its ``evaluation.json`` and print them.

    Each kind of weights and each combination of sampling settings in the config gives an evaluation of its own.

    Args:
        path: folder of the run, or a file of its ``checkpoints/``.
        config: config of ``genlab evaluate``, as plain values.

    Returns:
        The evaluations in their order.

    Raises:
        InputError: if the run cannot be opened or measured.
    """
    found: list[Evaluated] = []
    folder, checkpoint = _checkpoint_of(path, config["checkpoint"])
    given = ["raw", "ema"] if config["weights"] == "both" else config["weights"]
    kinds: list[Any] = given if isinstance(given, list) else [given]
    for kind in kinds:
        run = load(folder, checkpoint, kind, config["device"], config["dataset"])
        if config["images"]:
            found.append(evaluate_images(run, config))
            continue
        with spread(run, kind, config["devices"]) as devices:
            found += _evaluate(run, config, devices)
    return found


def _evaluate(run: Run, config: dict[str, Any], devices: Devices | None) -> list[Evaluated]:
    metrics = {**config["metrics"]}
    for name in ("features", "modes"):  # those of the run, unless the user chose others
        metrics[name] = metrics.get(name) or run.config["metrics"].get(name)
    evaluation = build(metrics, "metrics")
    model = run.model
    which = {"checkpoint": run.checkpoint, "weights": run.used_weights}
    about = evaluation.settings
    label = (
        f"{run.checkpoint}, {run.used_weights}, {about['features'] or 'no features'}, "
        f"{evaluation.reference}, {evaluation.num_samples} samples, seed {evaluation.seed}"
    )
    known: dict[str, Any] = {}
    found: list[Evaluated] = []
    changes = combinations(config["sampling"])
    for change, sampling in zip(changes, [sampling_settings(model, change) for change in changes], strict=True):
        model.sampling = sampling
        samples = None if devices is None else devices.samples(evaluation, sampling)
        measured = evaluation.measure(model, run.data, samples, protocol=which, known=known)
        figures = known = measured.figures
        if run.other_data:
            reason = f"{OTHER_DATA}: {run.other_data}"
            figures = {name: result.doubted(reason) for name, result in figures.items()}
        settings = {**which, **about, "sampling": asdict(sampling), "dataset": config["dataset"]}
        beside = _beside(run, figures)
        record(run.folder, settings, figures, evaluation.declared, beside)
        found.append(Evaluated(run.folder.path, figures, run.checkpoint, run.used_weights, change))
        shown, nearest = measured.samples, measured.neighbours
        if shown is not None and nearest is not None and run.modality.is_tiled:
            run.folder.make()  # a run folder out of a git repository lacks its empty folders
            save_png(beside_neighbours(shown, run.data, nearest), run.folder.samples / "neighbours.png")
        of = "".join([label, *(f", {name} {value}" for name, value in change.items())])
        print_figures(
            figures,
            {
                **({"published": [one.line for one in beside.values()]} if beside else {}),
                "run": f"{run.folder.path}: {of}",
                "written to": str(run.folder.path / EVALUATION),
            },
            evaluation.declared,
        )
    return found


def _beside(run: Run, figures: Mapping[str, Result]) -> dict[str, Standing]:
    """Judge the measured ones of the published figures of a run's experiment."""
    summary, status = run.folder.read_json(SUMMARY), run.folder.read_json(STATUS)
    results = {name: [result] for name, result in figures.items()}
    if (finished := Finished.of(run.config, summary, status, run.folder, results)) is None:
        return {}
    found = {name: one for name, one in standings(finished.published, [finished]).items() if f"test/{name}" in figures}
    if (word := status.get("status")) != "done":
        found = {name: one.withheld(f"no verdict, because the run is {word}") for name, one in found.items()}
    return found


def _checkpoint_of(path: str, checkpoint: str) -> tuple[Path, str]:
    """Split a path into the run's folder and the checkpoint that the path, or else the config, names."""
    file = Path(path)
    if not file.is_file():
        return file, checkpoint
    if file.suffix != ".ckpt" or file.parent.name != "checkpoints":
        raise InputError(f"{path} is not a checkpoint of a run (<run>/checkpoints/<name>.ckpt)")
    folder = file.parent.parent
    return folder, file.stem if file.stem in ("best", "last") else str(file)
