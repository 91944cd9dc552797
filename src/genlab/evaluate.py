"""``genlab evaluate RUN...`` measures runs, ``genlab evaluate real=DIR fake=DIR`` two sets of images."""

from typing import TYPE_CHECKING, Any, Literal

import hydra
from omegaconf import DictConfig

from genlab.composition import conf_dir, one_line_errors, paths_as

if TYPE_CHECKING:
    from pathlib import Path


def main() -> None:
    paths_as("run")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="evaluate")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    evaluate(cfg)


def evaluate(cfg: DictConfig) -> None:
    """Write each run's figures into its ``evaluation.json``, a pair's into a folder of its own, and print them.

    The same numbers come out every time. A run that cannot be measured does not keep the others from it.

    Raises:
        InputError: where something could not be measured, after everything else was.
    """
    from genlab.composition import plain
    from genlab.errors import InputError
    from genlab.runs.process import quiet_libraries

    config = plain(
        cfg,
        run=list[str] | str | None,
        real=str | None,
        fake=str | None,
        checkpoint=str,
        weights=Literal["auto", "ema", "raw", "both"],
        device=str,
    )
    quiet_libraries()
    runs = [config["run"]] if isinstance(config["run"], str) else config["run"]
    pair = [config[name] for name in ("real", "fake") if config[name] is not None]
    if bool(runs) == bool(pair) or len(pair) == 1:
        raise InputError("give runs (genlab evaluate FOLDER...), or real=DIR and fake=DIR")
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
    from genlab.composition import build
    from genlab.runs.evaluation import print_figures
    from genlab.runs.folder import EVALUATION
    from genlab.runs.loading import load
    from genlab.runs.pictures import save_png

    folder, checkpoint = _checkpoint_of(path, config["checkpoint"])
    kinds: list[Any] = ["raw", "ema"] if config["weights"] == "both" else [config["weights"]]
    for kind in kinds:
        run = load(folder, checkpoint, kind, config["device"], config["dataset"])
        metrics = {**config["metrics"]}
        for name in ("features", "modes"):  # what the run was measured by, unless another was chosen
            metrics[name] = metrics.get(name) or run.config["metrics"].get(name)
        evaluation = build(metrics, "metrics")
        model = run.model
        which = {"checkpoint": run.checkpoint, "weights": run.used_weights}
        figures, neighbours = evaluation.measure(model, run.data, evaluation.draw(model, run.data), which)
        features = evaluation.features.name if evaluation.features else "no features"
        label = (
            f"{run.checkpoint}, {run.used_weights}, {features}, "
            f"{evaluation.reference}, {evaluation.num_samples} samples, seed {evaluation.seed}"
        )
        before = run.folder.read_json(EVALUATION)
        evaluations = {**before.get("evaluations", {}), label: figures}
        run.folder.write_json(EVALUATION, {"metrics": figures, "evaluations": evaluations})
        if neighbours is not None:
            save_png(neighbours, run.folder.samples / "neighbours.png")
        print_figures(figures, {"run": f"{run.folder.path}: {label}", "written to": str(run.folder.path / EVALUATION)})


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


def _pair(config: dict[str, Any]) -> None:
    from pathlib import Path

    from genlab.composition import build, unique_name
    from genlab.data.image_sets import open_pair
    from genlab.runs.evaluation import print_figures
    from genlab.runs.folder import EVALUATION, RunFolder
    from genlab.runs.loading import device_named

    real, fake = open_pair(config["real"], config["fake"])
    metrics = {**config["metrics"]}
    metrics["features"] = metrics.get("features") or {"_target_": "genlab.metrics.inception.Inception"}
    evaluation = build(metrics, "metrics")
    figures = evaluation.compare(real, fake, device_named(config["device"]))
    path = Path(config["paths"]["output_dir"], "evaluate", unique_name())
    path.mkdir(parents=True)
    folder = RunFolder(path)
    folder.write_json(EVALUATION, {"real": config["real"], "fake": config["fake"], "metrics": figures})
    print_figures(figures, {"written to": str(path / EVALUATION)})


if __name__ == "__main__":
    main()
