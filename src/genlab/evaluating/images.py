"""Measure the images of a folder by the likelihood that a run's model gives them."""

import csv
import io
from typing import Any

from genlab.composition.building import build
from genlab.evaluating.evaluated import Evaluated
from genlab.evaluating.folder import new_folder
from genlab.machine.files import write_atomically
from genlab.machine.progress import with_progress
from genlab.metrics.display import print_figures
from genlab.metrics.folder_likelihood import FolderLikelihood
from genlab.runs.folder import EVALUATION
from genlab.runs.loading import Run

LIKELIHOOD = "likelihood.csv"


def evaluate_images(run: Run, config: dict[str, Any]) -> Evaluated:
    """Write a table with the likelihood of every image of a folder, and print the mean.

    Args:
        run: run whose model gives the likelihood.
        config: config of ``genlab evaluate``, as plain values; ``images`` names the folder.

    Raises:
        InputError: if the model has no likelihood of these images.
    """
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
    folder = new_folder(config)
    metrics = {name: figure.to_json() for name, figure in figures.items()}
    write_atomically(folder.path / LIKELIHOOD, table.getvalue())
    folder.write_json(EVALUATION, {"run": str(run.folder.path), "images": config["images"], "metrics": metrics})
    print_figures(figures, {"run": str(run.folder.path), "each image": str(folder.path / LIKELIHOOD)})
    return Evaluated(folder.path, figures, run.checkpoint, run.used_weights)
