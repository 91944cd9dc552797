"""How likely a model finds single images, of training and held out, when it has learned them."""

from pathlib import Path

import pytorch_lightning as pl

from genlab.data.examples import Split
from genlab.pictures.files import save_png
from genlab.training.module import TrainingModule
from genlab.views.likelihood_histogram import has_bits, likelihood_histogram, per_image_bits

SETS: dict[str, Split] = {"training images": "train", "validation images": "val"}


class LikelihoodHistogram(pl.Callback):
    """Writes ``<folder>/likelihood_histogram.png`` at the end of training, of the weights that it ends with.

    Models without bits/dim of images are left alone.

    Args:
        folder: of the picture.
        num_images: of each split, at most.
        seed: of what a bound draws.
    """

    def __init__(self, folder: str, num_images: int = 1000, seed: int = 0) -> None:
        self.folder, self.num_images, self.seed = Path(folder), num_images, seed

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        model = module.sampling_model
        data = trainer.datamodule  # type: ignore[attr-defined]
        if not trainer.is_global_zero or not has_bits(model, data):
            return
        bits = {name: per_image_bits(model, data, of, self.num_images, seed=self.seed) for name, of in SETS.items()}
        if all(values.isfinite().all() for values in bits.values()):  # a picture must not fail a run that is done
            save_png(likelihood_histogram(bits), self.folder / "likelihood_histogram.png")
