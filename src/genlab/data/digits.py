"""scikit-learn's handwritten digits: 1,797 real images of 8x8 with 17 grey levels, inside the package."""

from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from typing import cast

import numpy as np
import torch

from genlab.data.examples import Examples, Split


def _table() -> np.ndarray:
    """Read 64 pixels and the class of each digit, ``(1797, 65)``, without scikit-learn's import, which takes longer."""
    (folder,) = cast(ModuleSpec, find_spec("sklearn")).submodule_search_locations or []
    return np.loadtxt(Path(folder) / "datasets" / "data" / "digits.csv.gz", delimiter=",", dtype=np.uint8)


class Digits:
    """Source of the optical digits of the UCI repository (E. Alpaydin, C. Kaynak, 1998), as scikit-learn ships them.

    The data has no split of its own; the DataModule holds out validation and test examples.
    """

    fixed = True

    def load(self) -> dict[Split, Examples]:
        table = torch.from_numpy(_table())
        return {"train": Examples(table[:, :64].reshape(-1, 1, 8, 8).contiguous(), table[:, 64].long())}
