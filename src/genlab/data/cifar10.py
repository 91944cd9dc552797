"""CIFAR-10 from its Python files, unpickled by a reader that can build only arrays."""

import pickle
import socket
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genlab.data.examples import Examples, Split
from genlab.errors import InputError

TRAIN_FILES = [f"data_batch_{i}" for i in range(1, 6)]


class CIFAR10:
    """Source of CIFAR-10: 50,000 training and 10,000 test colour images of 32x32 (Krizhevsky, 2009).

    Args:
        root: folder that holds ``cifar-10-batches-py/`` (torchvision's layout), or to which it is downloaded.
    """

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()

    def load(self) -> dict[Split, Examples]:
        folder = self.root / "cifar-10-batches-py"
        if not all((folder / name).is_file() for name in [*TRAIN_FILES, "test_batch"]):
            self._download()
        return {
            "train": _read([folder / name for name in TRAIN_FILES]),
            "test": _read([folder / "test_batch"]),
        }

    def _download(self) -> None:
        from torchvision import datasets
        from torchvision.datasets.utils import download_and_extract_archive

        before = socket.getdefaulttimeout()
        socket.setdefaulttimeout(20)
        try:
            download_and_extract_archive(
                datasets.CIFAR10.url,
                str(self.root),
                filename=datasets.CIFAR10.filename,
                md5=datasets.CIFAR10.tgz_md5,
            )
        except (OSError, RuntimeError) as error:
            raise InputError(
                f"CIFAR-10 is not in {self.root} and could not be downloaded from {datasets.CIFAR10.url}: unpack "
                f"cifar-10-python.tar.gz there, so that {self.root}/cifar-10-batches-py/data_batch_1 exists, or give "
                "its folder as dataset.source.root=..."
            ) from error
        finally:
            socket.setdefaulttimeout(before)


class _ArraysOnly(pickle.Unpickler):
    """Unpickler that allows only the functions that rebuild a NumPy array, so that a file can run no other code."""

    def find_class(self, module: str, name: str) -> Any:
        if (module.removeprefix("numpy.").replace("_core", "core"), name) == ("core.multiarray", "_reconstruct"):
            return np.empty(0).__reduce__()[0]
        if (module, name) in {("numpy", "ndarray"), ("numpy", "dtype")}:
            return getattr(np, name)
        if (module, name) == ("_codecs", "encode"):
            import codecs

            return codecs.encode
        raise pickle.UnpicklingError(f"{module}.{name} is not a part of CIFAR-10's files")


def _read(paths: list[Path]) -> Examples:
    images, labels = [], []
    for path in paths:
        try:
            with path.open("rb") as file:
                batch = _ArraysOnly(file, encoding="bytes").load()
            images.append(np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
            labels.append(np.asarray(batch[b"labels"], dtype=np.int64))
        except (pickle.UnpicklingError, KeyError, ValueError, EOFError) as error:
            raise InputError(f"{path} is not a CIFAR-10 file ({error}): unpack cifar-10-python.tar.gz again") from error
    return Examples(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels)))
