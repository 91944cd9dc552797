"""Show the likelihood that a model gives to images of its data, and to others, as histograms of bits/dim."""

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch

from genlab.runs.loading import Run
from genlab.views.likelihood_histogram import beside_others, likelihood_histogram
from genlab.views.view import Shown, View


@dataclass(frozen=True, kw_only=True)
class Likelihood(View):
    """A view that compares the likelihood of training and test images with that of other images.

    The array saved beside the picture has a row of bits/dim for each set of images.

    Args:
        n: number of images of each set.
        against: other sets, each one of inverted, permuted, noise, constant, a dataset, a folder or a .npy file.
    """

    mode: ClassVar[str] = "likelihood"

    n: int = 1000
    against: tuple[str, ...] = ("inverted", "noise")

    @property
    def name(self) -> str:
        return f"{self.mode}-{'-'.join(Path(name).name for name in self.against)}"

    def show(self, run: Run) -> Shown:
        bits = beside_others(run, self.against, self.n, seed=self.seed)
        shortest = min(map(len, bits.values()))
        rows = torch.stack([of_images[:shortest] for of_images in bits.values()])
        return Shown(likelihood_histogram(bits), rows, are_examples=False)
