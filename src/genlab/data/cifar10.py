"""CIFAR-10 from its Python files, checked by hashes and unpickled by a reader that can build only arrays."""

import hashlib
import io
import json
import pickle
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from genlab.data.examples import Examples, Split
from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.machine.process import is_first

CHECKED = ".genlab-checked.json"  # beside the files: hashing all of them takes half a second, as long as reading them

# The published files with their MD5, as torchvision.datasets.CIFAR10 lists them.
FILES: dict[Split, dict[str, str]] = {
    "train": {
        "data_batch_1": "c99cafc152244af753f735de768cd75f",
        "data_batch_2": "d4bba439e000b95fd0a9bffe97cbabec",
        "data_batch_3": "54ebc095f3ab1f0389bbae665268c751",
        "data_batch_4": "634d18415352ddfa80567beed471001a",
        "data_batch_5": "482c414d41f54cd18b22e5b47cb7c3cb",
    },
    "test": {"test_batch": "40351d587109b95175f43aff81a1287e"},
}
# SHA-256 of the sorted SHA-256 of every image with its class: the same for copies in another order. The training images
# that it was computed from have the means 125.306918046875, 122.950394140625, 113.86538318359375 that are published for
# CIFAR-10's channels.
SORTED_SHA256: dict[Split, str] = {
    "train": "55a61f79a40ece2ceda9fb5f9f7078f6ea2fc4952489cef56682bcf92cfcc260",
    "test": "325704b01eb92e1e2a6215ae6a916bb7db7de054af0c496be1c7be2e0fcfbf5f",
}


class CIFAR10:
    """Source of CIFAR-10: 50,000 training and 10,000 test colour images of 32x32 (Krizhevsky, 2009).

    Files other than the published ones are read if they hold the same images and classes. If their order may be
    another, so that other images are held out, a line on stderr says so.

    Args:
        root: folder that holds ``cifar-10-batches-py/`` (torchvision's layout), or to which it is downloaded.
    """

    fixed = True

    def __init__(self, root: str) -> None:
        self.root = Path(root).expanduser()

    def class_names(self) -> list[str]:
        return ["airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"]

    def load(self) -> dict[Split, Examples]:
        """Read the files, after downloading them if necessary.

        Raises:
            InputError: if the files are missing and cannot be downloaded, or do not hold CIFAR-10.
        """
        folder = self.root / "cifar-10-batches-py"
        if not all((folder / name).is_file() for files in FILES.values() for name in files):
            self._download()
        splits: dict[Split, Examples] = {}
        known = _known(folder)
        published = True if known is None else known
        for split, files in FILES.items():
            paths = [folder / name for name in files]
            contents = [path.read_bytes() for path in paths]
            splits[split] = _parsed(paths, contents)
            if known is None:
                published &= _is_published(folder, split, contents, splits[split])
        if known is None:
            _remember(folder, published)
        if not published and is_first():
            print(
                f"genlab: {folder} holds all of CIFAR-10, but not in its published files: if their order is another, "
                "other images are held out for validation",
                file=sys.stderr,
            )
        return splits

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


def _state(folder: Path) -> list[list[Any]]:
    """List the name, size and time of every file."""
    paths = [folder / name for files in FILES.values() for name in files]
    return [[path.name, (status := path.stat()).st_size, status.st_mtime_ns] for path in paths]


def _known(folder: Path) -> bool | None:
    """Tell whether these very files were once found to be the published ones; None if they were never checked."""
    try:
        found = json.loads((folder / CHECKED).read_text(encoding="utf-8"))
        return bool(found["published"]) if found["files"] == _state(folder) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remember(folder: Path, published: bool) -> None:
    content = json.dumps({"files": _state(folder), "published": published})
    try:
        write_atomically(folder / CHECKED, content)
    except OSError:  # of a folder that only others may write to: checked anew each time
        return


def _is_published(folder: Path, split: Split, contents: Sequence[bytes], examples: Examples) -> bool:
    """Tell whether files are the published ones; raise InputError if they do not even hold the same examples."""
    pairs = zip(contents, FILES[split].values(), strict=True)
    if all(hashlib.md5(content, usedforsecurity=False).hexdigest() == published for content, published in pairs):
        return True
    if sorted_sha256(examples) != SORTED_SHA256[split]:
        raise InputError(
            f"{folder} does not hold CIFAR-10: its {split} images or classes are others; delete it and unpack "
            "cifar-10-python.tar.gz again"
        )
    return False


def sorted_sha256(examples: Examples) -> str:
    """Hash images in memory and their classes, whatever their order."""
    assert examples.images is not None
    images, size = examples.images.contiguous().numpy().data.cast("B"), examples.images[0].numel()
    digests = []
    for i, label in enumerate(examples.labels.tolist()):
        digest = hashlib.sha256(bytes([label]))
        digest.update(images[i * size : (i + 1) * size])
        digests.append(digest.digest())
    return hashlib.sha256(b"".join(sorted(digests))).hexdigest()


def _parsed(paths: Sequence[Path], contents: Sequence[bytes]) -> Examples:
    images, labels = [], []
    for path, content in zip(paths, contents, strict=True):
        try:
            batch = _ArraysOnly(io.BytesIO(content), encoding="bytes").load()
            images.append(np.asarray(batch[b"data"], dtype=np.uint8).reshape(-1, 3, 32, 32))
            labels.append(np.asarray(batch[b"labels"], dtype=np.int64))
        except (pickle.UnpicklingError, KeyError, ValueError, EOFError) as error:
            raise InputError(f"{path} is not a CIFAR-10 file ({error}): unpack cifar-10-python.tar.gz again") from error
    return Examples(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels)))
