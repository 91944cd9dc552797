"""``genlab evaluate RUN...`` measures runs, with ``images=DIR`` their likelihood of the images in a folder, and
``genlab evaluate real=DIR fake=DIR`` two sets of images."""

from typing import TYPE_CHECKING, Any, Literal

import hydra
from omegaconf import DictConfig

from genlab.composition.command_line import lists_of, paths_as
from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors

if TYPE_CHECKING:
    from pathlib import Path

    from genlab.runs.folder import RunFolder
    from genlab.runs.loading import Run

LIKELIHOOD = "likelihood.csv"


def main() -> None:
    paths_as("run")
    lists_of("sampling.")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="evaluate")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    evaluate(cfg)


def evaluate(cfg: DictConfig) -> None:
    """Write each run's figures into its ``evaluation.json``, those of folders into one of their own, and print them.

    The same numbers come out every time. A run that cannot be measured does not keep the others from it.

    Raises:
        InputError: where something could not be measured, after everything else was.
    """
    from genlab.composition.building import plain
    from genlab.errors import InputError
    from genlab.machine.devices import tune_processor
    from genlab.machine.process import keep_freed_memory, quiet_libraries

    config = plain(
        cfg,
        run=list[str] | str | None,
        real=str | None,
        fake=str | None,
        images=str | None,
        checkpoint=str,
        weights=Literal["auto", "ema", "raw", "both"],
        sampling=dict[str, Any],
        device=str,
    )
    quiet_libraries()
    keep_freed_memory()
    tune_processor()
    runs = [config["run"]] if isinstance(config["run"], str) else config["run"]
    pair = [config[name] for name in ("real", "fake") if config[name] is not None]
    if bool(runs) == bool(pair) or len(pair) == 1:
        raise InputError("give runs (genlab evaluate FOLDER...), or real=DIR and fake=DIR")
    if pair and config["images"]:
        raise InputError("images=DIR is measured by a run: give one (genlab evaluate FOLDER... images=DIR)")
    if pair:
        _pair(config)
        return
    failed: list[str] = []
    for run in runs:
        try:
            _run(run, config)
        except InputError as error:
            if len(runs) == 1:
                raise
            failed.append(f"{run}: {error}")
    if failed:
        raise InputError(f"{len(failed)} of {len(runs)} could not be measured: " + "; ".join(failed))


def _run(path: str, config: dict[str, Any]) -> None:
    from dataclasses import asdict

    from genlab.composition.building import build
    from genlab.composition.sampling import combinations, sampling_settings
    from genlab.metrics.display import print_figures
    from genlab.pictures.files import save_png
    from genlab.runs.evaluations import record
    from genlab.runs.folder import EVALUATION
    from genlab.runs.loading import load
    from genlab.views.nearest import beside_neighbours

    folder, checkpoint = _checkpoint_of(path, config["checkpoint"])
    kinds: list[Any] = ["raw", "ema"] if config["weights"] == "both" else [config["weights"]]
    for kind in kinds:
        run = load(folder, checkpoint, kind, config["device"], config["dataset"])
        if config["images"]:
            _images(run, config)
            continue
        metrics = {**config["metrics"]}
        for name in ("features", "modes"):  # what the run was measured by, unless another was chosen
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
        changes = combinations(config["sampling"])
        for change, sampling in zip(changes, [sampling_settings(model, change) for change in changes], strict=True):
            model.sampling = sampling
            measured = evaluation.measure(model, run.data, protocol=which, known=known)
            known = measured.figures
            settings = {**which, **about, "sampling": asdict(sampling), "dataset": config["dataset"]}
            record(run.folder, settings, measured.figures, evaluation.declared)
            if measured.samples is not None and measured.neighbours is not None:
                neighbours = beside_neighbours(measured.samples, run.data, measured.neighbours)
                save_png(neighbours, run.folder.samples / "neighbours.png")
            of = "".join([label, *(f", {name} {value}" for name, value in change.items())])
            print_figures(
                measured.figures,
                {"run": f"{run.folder.path}: {of}", "written to": str(run.folder.path / EVALUATION)},
                evaluation.declared,
            )


def _checkpoint_of(path: str, checkpoint: str) -> "tuple[Path, str]":
    """The run folder and the checkpoint that a path names: a folder, or a file of its ``checkpoints/``."""
    from pathlib import Path

    from genlab.errors import InputError

    file = Path(path)
    if not file.is_file():
        return file, checkpoint
    if file.suffix != ".ckpt" or file.parent.name != "checkpoints":
        raise InputError(f"{path} is not a checkpoint of a run (<run>/checkpoints/<name>.ckpt)")
    folder = file.parent.parent
    return folder, file.stem if file.stem in ("best", "last") else str(file)


def _images(run: "Run", config: dict[str, Any]) -> None:
    """The likelihood of every image of a folder, as a table, and its mean."""
    import csv
    import io

    from genlab.composition.building import build
    from genlab.machine.files import write_atomically
    from genlab.machine.progress import with_progress
    from genlab.metrics.display import print_figures
    from genlab.metrics.folder_likelihood import FolderLikelihood
    from genlab.runs.folder import EVALUATION

    of_folder = FolderLikelihood(config["images"], run.model, build(run.config["dataset"], "dataset"))
    with with_progress("likelihood", len(of_folder)) as advance:
        figures, nll = of_folder.measure(config["metrics"]["seed"], advance)
    which = {"run": str(run.folder.path), "checkpoint": run.checkpoint, "weights": run.used_weights}
    figures = {name: figure.under(which) for name, figure in figures.items()}
    table = io.StringIO()
    rows = csv.writer(table, lineterminator="\n")
    rows.writerow(["path", "nats", "bits_per_dim"])
    for file, nats, bits in zip(of_folder.files, nll, of_folder.model.bits_per_dim(nll), strict=True):
        rows.writerow([file.relative_to(of_folder.path), f"{nats:.6g}", f"{bits:.6g}"])
    folder = _new_folder(config)
    metrics = {name: figure.to_json() for name, figure in figures.items()}
    write_atomically(folder.path / LIKELIHOOD, table.getvalue())
    folder.write_json(EVALUATION, {"run": str(run.folder.path), "images": config["images"], "metrics": metrics})
    print_figures(figures, {"run": str(run.folder.path), "each image": str(folder.path / LIKELIHOOD)})


def _new_folder(config: dict[str, Any]) -> "RunFolder":
    from pathlib import Path

    from genlab.composition.resolvers import unique_name
    from genlab.runs.folder import RunFolder

    path = Path(config["paths"]["output_dir"], "evaluate", unique_name())
    path.mkdir(parents=True)
    return RunFolder(path)


def _pair(config: dict[str, Any]) -> None:
    from genlab.composition.building import build
    from genlab.data.image_sets import open_pair
    from genlab.metrics.display import print_figures
    from genlab.runs.folder import EVALUATION
    from genlab.runs.loading import device_named

    real, fake = open_pair(config["real"], config["fake"])
    node = {**config["metrics"]}
    node["features"] = node.get("features") or {"_target_": "genlab.metrics.inception.Inception"}
    evaluation = build(node, "metrics")
    figures = evaluation.compare(real, fake, device_named(config["device"]))
    folder = _new_folder(config)
    metrics = {name: figure.to_json() for name, figure in figures.items()}
    declared = {name: figure.to_json() for name, figure in evaluation.declared.items()}
    content = {"real": config["real"], "fake": config["fake"], "metrics": metrics}
    folder.write_json(EVALUATION, {**content, **({"figures": declared} if declared else {})})
    print_figures(figures, {"written to": str(folder.path / EVALUATION)}, evaluation.declared)


if __name__ == "__main__":
    main()
