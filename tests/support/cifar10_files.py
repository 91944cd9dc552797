"""Made-up images in the files of CIFAR-10."""

import pickle
from pathlib import Path

import numpy as np


def write_cifar10(root: Path, per_file: int = 40) -> np.ndarray:
    """Files in the format of cifar-10-batches-py, as NumPy 1 under Python 2 pickled them."""
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
    return np.concatenate(written)
