"""Draw the likelihood of single training and validation images as a histogram, when training ends."""

from pathlib import Path

import pytorch_lightning as pl
from pydantic import PositiveInt

from genlab.data.examples import Split
from genlab.pictures.files import save_png
from genlab.training.module import TrainingModule
from genlab.views.likelihood_histogram import has_bits, likelihood_histogram, per_image_bits

SETS: dict[str, Split] = {"training images": "train", "validation images": "val"}


class LikelihoodHistogram(pl.Callback):
    """A callback that writes ``<folder>/likelihood_histogram.png`` at the end of training, with the final weights.

    It does nothing for models without bits/dim of images, nor for those whose likelihood takes many evaluations of a
    network (``most_scored``): their runs would wait for minutes. ``genlab sample mode=likelihood`` draws it of these.

    Args:
        folder: folder of the picture.
        num_images: maximal number of images from each split.
        seed: random seed of the draws of models whose likelihood is a bound.
    """

    def __init__(self, folder: str, num_images: PositiveInt = 1000, seed: int = 0) -> None:
        self.folder, self.num_images, self.seed = Path(folder), num_images, seed

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        model = module.sampling_model
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not trainer.is_global_zero or not has_bits(model, data) or model.most_scored is not None:
            return
        bits = {name: per_image_bits(model, data, of, self.num_images, seed=self.seed) for name, of in SETS.items()}
        if all(values.isfinite().all() for values in bits.values()):  # a picture must not make a finished run fail
            save_png(likelihood_histogram(bits), self.folder / "likelihood_histogram.png")
