"""Measure images of CIFAR-10 whose quality is known, in the features that need no download: a table of docs/metrics.md.

    python benchmarks/metrics_on_cifar10.py [NAME=RUN...]

Without runs: the 10,000 test images against the 45,000 training images, which is what a perfect model would get, with
the seconds that a first evaluation takes, and 2,000 test images as they are, blurred and noised. Each NAME=RUN adds two
rows to the file: 2,000 samples of the run, and 2,000 of its model as its training began.
"""

import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
import yaml
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from genlab.composition.building import build
from genlab.data.cifar10 import CIFAR10
from genlab.data.image_sets import ArrayImages, SplitImages
from genlab.data.images import ImageDataModule
from genlab.machine.environment import code
from genlab.machine.files import write_atomically
from genlab.metrics.drawing import draw
from genlab.metrics.evaluation import Evaluation
from genlab.modalities.image import to_uint8
from genlab.runs.loading import load
from genlab.training.parts import assemble

OUTPUT = Path(__file__).with_suffix(".json")
FEATURES = Path(__file__).parents[1] / "conf" / "metrics" / "features" / "efficientnet_lite0.yaml"
COLUMNS = ("fid", "kid", "inception_score", "precision", "recall", "density", "coverage")
NUM = 2000


def spoiled(x: Tensor) -> dict[str, Tensor]:
    """Test images ``(N, 3, 32, 32)``, blurred and noised by growing amounts."""
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    return {
        **{f"test images, blurred by {s:g} pixels": gaussian_blur(x, 13, s) for s in (0.5, 1.0)},
        **{f"test images, noise of {s:g}": x + s * noise for s in (0.05, 0.2)},
    }


def samples_of(runs: list[str]) -> dict[str, Tensor]:
    """Samples of each run, and of its model before its training."""
    found = {}
    for argument in runs:
        name, _, folder = argument.partition("=")
        run = load(folder, device="cpu")
        found[f"{name}, {run.summary['images_seen']:,} training images"] = draw(run.model, NUM, seed=0)
        found[f"{name}, untrained"] = draw(assemble(run.config).model.eval(), NUM, seed=0)
    return found


def main(runs: list[str]) -> None:
    root, cache = os.environ.get("GENLAB_DATA", "data"), os.environ.get("GENLAB_CACHE", "~/.cache/genlab")
    data = ImageDataModule(CIFAR10(root), "cifar10", (3, 32, 32), val_size=5000)
    train, about = SplitImages(data, "train"), code()
    node = {"_target_": "genlab.metrics.evaluation.Evaluation", "features": yaml.safe_load(FEATURES.read_text())}
    test = data.first("test")
    sets = samples_of(runs) if runs else {"10,000 test images": test, "test images": test[:NUM], **spoiled(test[:NUM])}
    with tempfile.TemporaryDirectory() as folder:
        for name, images in sets.items():
            is_first = len(images) > NUM  # measured without stored features, to know how long that takes
            evaluation = build({**node, "cache_dir": folder if is_first else cache}, "metrics")
            assert isinstance(evaluation, Evaluation)
            path = Path(folder, "images.npy")
            np.save(path, to_uint8(images).numpy())
            started, of_process = time.time(), time.process_time()
            figures = evaluation.compare(train, ArrayImages(str(path)), torch.device("cpu"))
            seconds = {"wall": time.time() - started, "processor": time.process_time() - of_process}
            content = json.loads(OUTPUT.read_text()) if OUTPUT.exists() else {"images": {}}
            content["images"][name] = {column: float(figures[column].value) for column in COLUMNS}
            # Real images first, in whatever order the rows were measured.
            content["images"] = dict(sorted(content["images"].items(), key=lambda row: "test images" not in row[0]))
            if is_first:
                Path(cache).expanduser().mkdir(parents=True, exist_ok=True)
                for stored in Path(folder).glob("*.safetensors"):
                    shutil.copy(stored, Path(cache).expanduser())
                content["first_evaluation_seconds"] = {**seconds, "threads": torch.get_num_threads()}
            print(name, content["images"][name], seconds, flush=True)
            content |= {**about, "numbers": "2,000 images each, but for the first row", "num_real": len(train)}
            write_atomically(OUTPUT, json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main(sys.argv[1:])
