"""Made-up images in the files of CIFAR-10."""

import pickle
from pathlib import Path

import numpy as np
import torch

from genlab.data import cifar10
from genlab.data.examples import Examples


def write_cifar10(root: Path, per_file: int = 40) -> np.ndarray:
    """Files in the format of cifar-10-batches-py, as NumPy 1 under Python 2 pickled them.

    They are what CIFAR-10 is checked against until the end of the test.
    """
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = []
    for name in [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]:
        images = rng.integers(0, 256, (per_file, 3072), dtype=np.uint8)
        batch = {b"data": images, b"labels": [i % 10 for i in range(per_file)], b"batch_label": b"made up"}
        content = pickle.dumps(batch, protocol=2).replace(b"numpy._core.multiarray", b"numpy.core.multiarray")
        (folder / name).write_bytes(content)
        written.append(images)
    classes = torch.arange(per_file) % 10
    for split, parts in (("train", written[:5]), ("test", written[5:])):
        images = torch.from_numpy(np.concatenate(parts))
        cifar10.SORTED_SHA256[split] = cifar10.sorted_sha256(Examples(images, classes.repeat(len(parts))))
    return np.concatenate(written)
