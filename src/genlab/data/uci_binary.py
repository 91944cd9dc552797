"""Three of the binary UCI data sets on which NADE, DARN and MADE report likelihoods, with their splits."""

import hashlib
import io
import warnings
from pathlib import Path
from typing import Literal

import numpy as np
import torch

from genlab.data.examples import Examples, Split
from genlab.errors import InputError
from genlab.machine.downloads import download

Name = Literal["dna", "mushrooms", "nips"]

# Number of bits of an example.
WIDTHS: dict[str, int] = {"dna": 180, "mushrooms": 112, "nips": 500}
SHA256 = {
    "dna": "df2d2e7ce1469edfead15e41024e108d64f1b4633cfecfc40ef7107cc22c895c",
    "mushrooms": "4130f1defa3033911fe746a3ab1bb22b0c812bb29e68391a0fbc2d65bab6ae74",
    "nips": "dbf3b659a49670957c0851971bd51ff952a657f010581d12f6c1e2dca8907b20",
}
URL = "https://raw.githubusercontent.com/mgermain/MADE/master/datasets/{name}.npz"
SPLITS: dict[Split, str] = {"train": "train_data", "val": "valid_data", "test": "test_data"}


class UCIBinary:
    """Source of a binary UCI data set: rows of bits as images of one line, ``(1, 1, D)``.

    The splits are those of The Neural Autoregressive Distribution Estimator (Larochelle and Murray, 2011), which MADE
    (arXiv:1502.03509) uses too; the files are those that MADE's authors publish.

    ========= === ===== ===== =====
    name      D   train val   test
    ========= === ===== ===== =====
    dna       180 1,400 600   1,186
    mushrooms 112 2,000 500   5,624
    nips      500 400   100   1,240
    ========= === ===== ===== =====

    Args:
        name: name of the data set: dna, mushrooms, or nips (NIPS-0-12 in the papers).
        root: folder that holds ``uci_binary/<name>.npz``, or to which it is downloaded.
    """

    fixed = True

    def __init__(self, name: Name, root: str) -> None:
        self.name = name
        self.path = Path(root).expanduser() / "uci_binary" / f"{name}.npz"

    def load(self) -> dict[Split, Examples]:
        """Read the three splits, after downloading the file if necessary.

        Raises:
            InputError: if the file is damaged, or is missing and cannot be downloaded.
        """
        if not self.path.is_file():
            self._download()
        content = self.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != SHA256[self.name]:
            raise InputError(
                f"{self.path} is not the file that MADE's authors publish (its sha256 differs): delete it, and it is "
                "downloaded again"
            )
        with warnings.catch_warnings(), np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            # NumPy warns that it has to rewrite the headers, which Python 2 wrote.
            warnings.simplefilter("ignore", UserWarning)
            rows = {split: arrays[name].astype(np.uint8) for split, name in SPLITS.items()}
        return {
            split: Examples(torch.from_numpy(bits)[:, None, None], torch.zeros(len(bits), dtype=torch.long))
            for split, bits in rows.items()
        }

    def _download(self) -> None:
        url = URL.format(name=self.name)
        try:
            download(url, self.path, SHA256[self.name])
        except OSError as error:
            raise InputError(
                f"{self.name} is not in {self.path.parent} and could not be downloaded from {url}: put that file "
                "there, or give the folder above uci_binary/ as dataset.source.root=..."
            ) from error
