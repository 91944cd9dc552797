"""The same 64 samples, again and again, as they grow."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger

from genlab.metrics.measure import draw
from genlab.runs.pictures import grid, save_png
from genlab.training.module import TrainingModule


class SampleGrid(pl.Callback):
    """Writes ``<folder>/<images seen>.png`` at the start and after validations, from fixed seeds.

    Args:
        folder: of the pictures.
        num_samples: on a grid.
        every_n_validations: how often.
        seed: of the noise, so that a picture shows the same samples as the one before.
    """

    def __init__(self, folder: str, num_samples: int = 64, every_n_validations: int = 1, seed: int = 0) -> None:
        self.folder = Path(folder)
        self.num_samples, self.every_n_validations, self.seed = num_samples, every_n_validations, seed
        self.validations = 0

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self.validations += 1
        if trainer.sanity_checking or (self.validations - 1) % self.every_n_validations:
            return
        self._draw(trainer, module)

    def _draw(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        if not trainer.is_global_zero:
            return
        picture = grid(draw(module.sampling_model, self.num_samples, seed=self.seed))
        save_png(picture, self.folder / f"{module.images_seen:010d}.png")
        log_picture(trainer, "samples", picture, module.images_seen)

    def state_dict(self) -> dict[str, int]:
        return {"validations": self.validations}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.validations = state["validations"]


def log_picture(trainer: pl.Trainer, name: str, picture: Image.Image, images_seen: int) -> None:
    """To the loggers that can show one."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], step=images_seen)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, np.asarray(picture), images_seen, dataformats="HWC")
