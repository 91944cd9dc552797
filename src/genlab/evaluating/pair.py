"""Measure one set of images against another."""

from typing import Any

from genlab.composition.building import build
from genlab.data.image_sets import open_pair
from genlab.evaluating.evaluated import Evaluated
from genlab.evaluating.folder import new_folder
from genlab.metrics.display import print_figures
from genlab.runs.folder import EVALUATION
from genlab.runs.loading import device_named


def evaluate_pair(config: dict[str, Any]) -> Evaluated:
    """Compare the features of two folders (or arrays) of images, write the figures and print them.

    Args:
        config: config of ``genlab evaluate``, as plain values; ``real`` and ``fake`` name the sets, and ``shape`` may
            say in which shape their pictures are read.

    Raises:
        InputError: if a set is missing or empty, or has images of more than one size.
    """
    real, fake = open_pair(config["real"], config["fake"], config["shape"] and tuple(config["shape"]))
    node = {**config["metrics"]}
    node["features"] = node.get("features") or {"_target_": "genlab.metrics.inception.Inception"}
    evaluation = build(node, "metrics")
    figures = evaluation.compare(real, fake, device_named(config["device"]))
    folder = new_folder(config)
    metrics = {name: figure.to_json() for name, figure in figures.items()}
    declared = {name: figure.to_json() for name, figure in evaluation.declared.items()}
    content = {"real": config["real"], "fake": config["fake"], "metrics": metrics}
    folder.write_json(EVALUATION, {**content, **({"figures": declared} if declared else {})})
    print_figures(figures, {"written to": str(folder.path / EVALUATION)}, evaluation.declared)
    return Evaluated(folder.path, figures)
