"""``genlab evaluate run=FOLDER``: measure a run's checkpoint; needs the folder and nothing else."""

import hydra
from omegaconf import DictConfig

from genlab.composition import conf_dir, one_line_errors


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="evaluate")
@one_line_errors
def main(cfg: DictConfig) -> None:
    evaluate(cfg)


def evaluate(cfg: DictConfig) -> None:
    """Write ``evaluation.json`` into the run folder and print it; the same numbers every time."""
    from genlab.composition import build, plain
    from genlab.metrics.measure import draw
    from genlab.runs.evaluation import measure, print_figures, with_progress
    from genlab.runs.folder import EVALUATION
    from genlab.runs.loading import Weights, load

    config = plain(
        cfg,
        run=str,
        checkpoint=str,
        weights=Weights,
        metrics__num_samples=int,
        metrics__num_test=int | None,
        metrics__seed=int,
    )
    run = load(config["run"], config["checkpoint"], config["weights"], config["device"], config["dataset"])
    metrics = config["metrics"]
    features = build(metrics["features"], "metrics.features")
    with with_progress("samples", metrics["num_samples"]) as advance:
        samples = draw(run.model, metrics["num_samples"], seed=metrics["seed"], advance=advance)
    figures = measure(
        run.model,
        run.data,
        features,
        samples,
        num_test=metrics["num_test"],
        seed=metrics["seed"],
        protocol={"checkpoint": run.checkpoint, "weights": run.used_weights},
    )
    run.folder.write_json(EVALUATION, {"metrics": figures})
    print_figures(figures, {"written to": str(run.folder.path / EVALUATION)})


if __name__ == "__main__":
    main()
