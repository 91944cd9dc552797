"""The same 64 samples, again and again, as they grow."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytorch_lightning as pl
from PIL import Image
from pytorch_lightning.loggers import TensorBoardLogger, WandbLogger
from torch import Tensor

from genlab.metrics.measure import density_in_plane, draw, evaluating
from genlab.modalities.modality import Rendering
from genlab.models.base import AdversarialModel
from genlab.pictures.files import film
from genlab.training.adversarial import AdversarialTraining
from genlab.training.module import TrainingModule


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
        data, model = trainer.datamodule, module.sampling_model  # type: ignore[attr-defined]
        modality = data.pictured.modality
        num = modality.num_watched(self.num_samples)
        samples = draw(model, num, seed=self.seed, decode=data.decode)
        real = data.pictured.first("val", num) if modality.is_overlaid else None
        surface = _surface(module)
        with evaluating(module.model):
            rendering = modality.render(
                samples, real, density=None if surface else density_in_plane(model), surface=surface
            )
        rendering.save(self.folder / f"{module.images_seen:010d}")
        log_rendering(trainer, "samples", rendering, module.images_seen)

    def on_fit_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        frames = sorted(path for path in self.folder.glob("*.png") if path.stem.isdigit())
        if trainer.is_global_zero and len(frames) > 1:
            film(frames, self.folder / "film.gif")

    def state_dict(self) -> dict[str, int]:
        return {"validations": self.validations}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.validations = state["validations"]


def _surface(module: TrainingModule) -> Callable[[Tensor], Tensor] | None:
    """Give D's logits over points of the plane, in a game without classes; around their median if 0 says nothing."""
    player = module.model
    if not isinstance(player, AdversarialModel) or player.num_classes is not None:
        return None
    assert isinstance(module, AdversarialTraining)
    calibrated = module.loss.calibrated

    def surface(at: Tensor) -> Tensor:
        logits = player.discriminator(at.to(player.device).repeat_interleave(player.pack, 0), None)
        return logits if calibrated else logits - logits.median()

    return surface


def log_rendering(trainer: pl.Trainer, name: str, rendering: Rendering, images_seen: int) -> None:
    """Send a rendering to the loggers that can show it."""
    if rendering.texts is not None:
        log_texts(trainer, name, list(rendering.texts), images_seen)
    if rendering.picture is not None:
        log_picture(trainer, name, rendering.picture, images_seen)


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
