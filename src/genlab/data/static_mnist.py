"""The static binarized MNIST of Larochelle and Murray: the same bits in every epoch and every paper."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import torch

from genlab.data.examples import Examples, Split
from genlab.errors import InputError
from genlab.machine.downloads import download
from genlab.machine.files import write_atomically

URL = "http://www.cs.toronto.edu/~larocheh/public/datasets/binarized_mnist/binarized_mnist_{name}.amat"
NAMES: dict[Split, str] = {"train": "train", "val": "valid", "test": "test"}
# Of the text files as they are published, unpacked.
MD5 = {
    "train": "db28b1a6ae0fe70cbd3da91acf46e477",
    "valid": "bf37822a04e94123630de6a7dfd9c9ef",
    "test": "14e41ae11040adba6ab8cb291eda0dd8",
}
# Of their bits, eight in a byte, the first one in its highest bit.
SHA256 = {
    "train": "727146c35424b019f3e350e1e69faa05644a0abaf787e3f4e1a9632220a13906",
    "valid": "a256ac44ae26be720fad8616a05ed6ecfd1619930d9a208379bb2a4405df5b6d",
    "test": "9fcd8da6f0fdf09b2ba30fe63a0bb784042a0de82563172530229b983e294ff2",
}


class StaticMNIST:
    """Source of the static binarized MNIST: 50,000 training, 10,000 validation and 10,000 test images of 28x28 bits.

    On the Quantitative Analysis of Deep Belief Networks (Salakhutdinov and Murray, 2008); the files are those of The
    Neural Autoregressive Distribution Estimator (Larochelle and Murray, 2011), on which MADE, NADE, DARN, DRAW and
    PixelRNN report likelihoods. The bits have no labels.

    The files are 110 MB of text. Their bits are kept in a cache of 7 MB, which is read in their place.

    Args:
        root: folder that holds ``binarized_mnist/binarized_mnist_{train,valid,test}.amat``, or the same files as
            ``.amat.gz``, or to which they are downloaded.
        cache_dir: folder of the cache; ``None`` for no cache.
    """

    fixed = True

    def __init__(self, root: str, cache_dir: str | None = None) -> None:
        self.folder = Path(root).expanduser() / "binarized_mnist"
        self.cache = None if cache_dir is None else Path(cache_dir).expanduser() / "static_mnist"

    def load(self) -> dict[Split, Examples]:
        """Read the three splits, after downloading the files if necessary.

        Raises:
            InputError: if a file is damaged, or is missing and cannot be downloaded.
        """
        splits: dict[Split, Examples] = {}
        for split, name in NAMES.items():
            packed = np.frombuffer(self._cached(name) or self._packed(name), dtype=np.uint8)
            images = torch.from_numpy(np.unpackbits(packed).reshape(-1, 1, 28, 28))
            splits[split] = Examples(images, torch.zeros(len(images), dtype=torch.long))
        return splits

    def _cached(self, name: str) -> bytes | None:
        """Read the bits of a split from the cache; None if they are not there, or are damaged."""
        if self.cache is None or not (path := self.cache / name).is_file():
            return None
        content = path.read_bytes()
        return content if hashlib.sha256(content).hexdigest() == SHA256[name] else None

    def _packed(self, name: str) -> bytes:
        """Read the bits of a split from its text, verify them, and keep them in the cache."""
        text, path = self._text(name)
        if hashlib.md5(text, usedforsecurity=False).hexdigest() != MD5[name]:
            raise InputError(
                f"{path} is not Larochelle and Murray's file (its md5 differs): delete it, and it is downloaded again"
            )
        signs = np.frombuffer(text, dtype=np.uint8)
        packed = np.packbits(signs[(signs == ord("0")) | (signs == ord("1"))] - ord("0")).tobytes()
        assert hashlib.sha256(packed).hexdigest() == SHA256[name]
        if self.cache is not None:
            self.cache.mkdir(parents=True, exist_ok=True)
            write_atomically(self.cache / name, packed)
        return packed

    def _text(self, name: str) -> tuple[bytes, Path]:
        """Read the text of a split, plain or compressed, or download it."""
        plain = self.folder / f"binarized_mnist_{name}.amat"
        compressed = plain.with_name(f"{plain.name}.gz")
        if plain.is_file():
            return plain.read_bytes(), plain
        if compressed.is_file():
            try:
                return gzip.decompress(compressed.read_bytes()), compressed
            except (OSError, EOFError) as error:
                raise InputError(
                    f"{compressed} cannot be unpacked ({error}): delete it, and it is downloaded again"
                ) from error
        url = URL.format(name=name)
        try:
            download(url, plain, MD5[name], "md5")
        except OSError as error:
            raise InputError(
                f"the static binarized MNIST is not in {self.folder} and could not be downloaded from {url}: put "
                "binarized_mnist_{train,valid,test}.amat there, or give the folder above binarized_mnist/ as "
                "dataset.source.root=..."
            ) from error
        return plain.read_bytes(), plain
