"""scikit-learn's handwritten digits: 1,797 real images of 8x8 with 17 grey levels, inside the package."""

import torch

from genlab.data.examples import Examples, Split


class Digits:
    """Source of the optical digits of the UCI repository (E. Alpaydin, C. Kaynak, 1998), as scikit-learn ships them.

    The data has no split of its own; the DataModule holds out validation and test examples.
    """

    fixed = True

    def load(self) -> dict[Split, Examples]:
        from sklearn.datasets import load_digits

        images, labels = load_digits(return_X_y=True)
        return {
            "train": Examples(
                torch.from_numpy(images).to(torch.uint8).view(-1, 1, 8, 8), torch.from_numpy(labels).long()
            )
        }
