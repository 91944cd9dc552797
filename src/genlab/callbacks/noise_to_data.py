"""Film how a flow turns noise in the plane into data, when training ends."""

from pathlib import Path

import pytorch_lightning as pl
from pydantic import PositiveInt

from genlab.pictures.files import film, save_png
from genlab.training.module import TrainingModule
from genlab.views.noise_to_data import moves_in_plane, noise_to_data


class NoiseToData(pl.Callback):
    """A callback that writes ``<folder>/noise_to_data.gif`` and ``.png`` at the end of training.

    It shows the final weights, and does nothing for models other than flows of points in the plane.

    Args:
        folder: folder of the film and the picture.
        num_samples: number of samples to follow from noise to data.
        seed: random seed of the noise.
    """

    def __init__(self, folder: str, num_samples: PositiveInt = 2000, seed: int = 0) -> None:
        self.folder, self.num_samples, self.seed = Path(folder), num_samples, seed

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        model = module.sampling_model
        if not trainer.is_global_zero or not moves_in_plane(model):
            return
        real = trainer.datamodule.first("val", self.num_samples)  # type: ignore[attr-defined]
        frames, sheet = noise_to_data(model, real, num=self.num_samples, seed=self.seed)
        film(frames, self.folder / "noise_to_data.gif", seconds=5)
        save_png(sheet, self.folder / "noise_to_data.png")
