"""Measure images whose quality is known, to metrics_on_mnist.json: the table of docs/metrics.md.

    python benchmarks/metrics_on_mnist.py [RUN...]

10,000 images each against the 55,000 training images of MNIST, in the features of the shipped classifier: the test set
itself, samples of runs (their best checkpoint), and test images that were blurred or noised. If runs are given, the
file is not written, because the runs' folders would have to be kept with it: the table is only printed.
"""

import json
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from genlab.composition.building import build
from genlab.data.image_sets import ArrayImages, SplitImages
from genlab.data.images import ImageDataModule
from genlab.data.mnist import MNIST
from genlab.machine.environment import code
from genlab.machine.files import write_atomically
from genlab.metrics.evaluation import Evaluation
from genlab.modalities.image import to_uint8
from genlab.runs.loading import load

OUTPUT = Path(__file__).with_suffix(".json")
COLUMNS = ("fid", "kid", "inception_score", "precision", "recall", "density", "coverage", "modes", "kl_to_uniform")


def spoiled(x: Tensor) -> dict[str, Tensor]:
    """Test images ``(N, 1, 28, 28)``, blurred and noised by growing amounts."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return {
        **{f"test images, blurred by {s:g} pixels": gaussian_blur(x, 13, s) for s in (0.5, 1.0, 2.0)},
        **{f"test images, noise of {s:g}": x + s * noise for s in (0.05, 0.1, 0.2, 0.4)},
    }


def main(runs: list[str]) -> None:
    data = ImageDataModule(MNIST(os.environ.get("GENLAB_DATA", "data")), "mnist", (1, 28, 28), val_size=5000)
    train = SplitImages(data, "train")
    test = data.first("test")
    classifier = {"_target_": "genlab.metrics.digit_classifier.DigitClassifier.pretrained", "weights": "mnist"}
    modes = {"_target_": "genlab.metrics.modes.ClassModes", "weights": "mnist"}
    node = {"_target_": "genlab.metrics.evaluation.Evaluation", "features": classifier, "modes": modes}
    evaluation = build({**node, "cache_dir": os.environ.get("GENLAB_CACHE", "~/.cache/genlab")}, "metrics")
    assert isinstance(evaluation, Evaluation)
    sets = {"real test images": test}
    for run in map(load, runs):
        sets[f"samples of `{run.config['choices']['model']}`"] = evaluation.draw(run.model)
    about, found = code(), {}  # the commit that the measurement begins with
    print("| images | " + " | ".join(COLUMNS) + " | seconds |\n| --- |" + " ---: |" * (len(COLUMNS) + 1))
    with tempfile.TemporaryDirectory() as folder:
        for name, images in {**sets, **spoiled(test)}.items():
            path = Path(folder, "images.npy")
            np.save(path, to_uint8(images).numpy())
            started = time.time()
            figures = evaluation.compare(train, ArrayImages(str(path)), torch.device("cpu"))
            found[name] = {column: float(figures[column].value) for column in COLUMNS}
            cells = [f"{value:.4g}" for value in found[name].values()]
            print(f"| {name} | " + " | ".join(cells) + f" | {time.time() - started:.0f} |", flush=True)
    if not runs:
        content = {**about, "num_images": len(test), "num_real": len(train), "images": found}
        write_atomically(OUTPUT, json.dumps(content, indent=1) + "\n")
        print(f"written: {OUTPUT}")


if __name__ == "__main__":
    main(sys.argv[1:])
