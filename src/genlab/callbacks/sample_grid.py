"""The same 64 samples, again and again, as they grow."""

from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from genlab.data.text import TextDataModule
from genlab.metrics.measure import density_in_plane, draw, evaluating
from genlab.models.base import AdversarialModel
from genlab.training.adversarial import AdversarialTraining
from genlab.training.module import TrainingModule
from genlab.views.pictures import film, grid, save_png, scatter
from genlab.views.write import save_texts


class SampleGrid(pl.Callback):
    """Writes ``<folder>/<images seen>.png`` after validations, from fixed seeds, and all of them as ``film.gif``.

    Points of the plane are drawn over those of the data, over a density of them where the model has one, and in a game
    over the discriminator's surface: red where it says real, or, of a loss whose zero says nothing, where it is above
    its median in view. Of text, ``<images seen>.txt`` has the first 8 samples.

    Args:
        folder: of the pictures.
        num_samples: on a picture; of points, 16 times as many.
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
        data = trainer.datamodule  # type: ignore[attr-defined]
        if isinstance(data, TextDataModule):
            texts = data.text(draw(module.sampling_model, min(8, self.num_samples), seed=self.seed))
            save_texts(texts, self.folder / f"{module.images_seen:010d}.txt")
            log_texts(trainer, "samples", texts, module.images_seen)
            return
        drawn = self._picture(trainer, module)
        save_png(drawn, self.folder / f"{module.images_seen:010d}.png")
        log_picture(trainer, "samples", drawn, module.images_seen)

    def _picture(self, trainer: pl.Trainer, module: TrainingModule) -> Image.Image:
        model = module.sampling_model
        if len(model.shape) == 3:
            data = trainer.datamodule  # type: ignore[attr-defined]
            return grid(draw(model, self.num_samples, seed=self.seed, decode=data.decode))
        samples = draw(model, 16 * self.num_samples, seed=self.seed)
        real = trainer.datamodule.first("val", 16 * self.num_samples)  # type: ignore[attr-defined]
        if not isinstance(module.model, AdversarialModel) or module.model.num_classes is not None:
            return scatter(samples, real, density=density_in_plane(model))
        assert isinstance(module, AdversarialTraining)
        player = module.model
        calibrated = module.loss.calibrated

        def surface(at: Tensor) -> Tensor:
            logits = player.discriminator(at.to(player.device).repeat_interleave(player.pack, 0), None)
            return logits if calibrated else logits - logits.median()

        with evaluating(player):
            return scatter(samples, real, surface)

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        frames = sorted(path for path in self.folder.glob("*.png") if path.stem.isdigit())
        if trainer.is_global_zero and len(frames) > 1:
            film(frames, self.folder / "film.gif")

    def state_dict(self) -> dict[str, int]:
        return {"validations": self.validations}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.validations = state["validations"]


def log_texts(trainer: pl.Trainer, name: str, texts: list[str], images_seen: int) -> None:
    """To the loggers that can show some."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_text(name, columns=["text"], data=[[text] for text in texts], step=images_seen)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_text(name, "\n\n".join(f"```\n{text}\n```" for text in texts), images_seen)


def log_picture(trainer: pl.Trainer, name: str, picture: Image.Image, images_seen: int) -> None:
    """To the loggers that can show one."""
    for logger in trainer.loggers:
        if isinstance(logger, WandbLogger):
            logger.log_image(name, [picture], step=images_seen)
        elif isinstance(logger, TensorBoardLogger):
            logger.experiment.add_image(name, np.asarray(picture), images_seen, dataformats="HWC")
