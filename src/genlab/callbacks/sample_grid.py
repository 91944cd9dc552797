"""Draw the same samples again and again during training, to show how they improve."""

from collections.abc import Callable
from pathlib import Path

import pytorch_lightning as pl
from PIL import Image
from pydantic import PositiveInt
from torch import Tensor

from genlab.loggers.tracker import Tracker
from genlab.metrics.drawing import density_in_plane, draw, evaluating
from genlab.modalities.modality import Rendering
from genlab.models.adversarial import AdversarialModel
from genlab.pictures.files import film
from genlab.training.adversarial import AdversarialTraining
from genlab.training.module import TrainingModule


class SampleGrid(pl.Callback):
    """A callback that writes ``<folder>/<images seen>.png`` after validations, and all of them as ``film.gif``.

    Samples that are points of the plane are drawn over points of the data. Behind them is the model's density, if it
    has one, or the discriminator's output in adversarial training: red means real. For losses whose zero has no
    meaning, red means above the median of the picture. For text, the first 8 samples are written to
    ``<images seen>.txt`` instead.

    Args:
        folder: folder of the pictures.
        num_samples: number of samples on a picture; 16 times as many if they are points.
        every_n_validations: number of validations between two pictures.
        seed: random seed of the noise, which is the same for all pictures.
    """

    def __init__(
        self, folder: str, num_samples: PositiveInt = 64, every_n_validations: PositiveInt = 1, seed: int = 0
    ) -> None:
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
            captions = [f"{int(path.stem):,} images seen" for path in frames]
            film(frames, self.folder / "film.gif", captions=captions)

    def state_dict(self) -> dict[str, int]:
        return {"validations": self.validations}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.validations = state["validations"]


def _surface(module: TrainingModule) -> Callable[[Tensor], Tensor] | None:
    """Give the discriminator's logits as a function of points, if the model has one and no classes.

    If the loss gives the logit 0 no meaning, their median is subtracted.
    """
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
    """Send a rendering to the loggers that can show it.

    Args:
        trainer: trainer with the loggers.
        name: name of the rendering in the loggers.
        rendering: picture, texts or both.
        images_seen: number of training images seen, which is the loggers' step.
    """
    if rendering.texts is not None:
        log_texts(trainer, name, list(rendering.texts), images_seen)
    if rendering.picture is not None:
        log_picture(trainer, name, rendering.picture, images_seen)


def log_texts(trainer: pl.Trainer, name: str, texts: list[str], images_seen: int) -> None:
    """Send texts to the loggers that can show them.

    Args:
        trainer: trainer with the loggers.
        name: name of the texts in the loggers.
        texts: texts to show.
        images_seen: number of training images seen, which is the loggers' step.
    """
    for logger in trainer.loggers:
        if isinstance(logger, Tracker):
            logger.log_texts(name, texts, images_seen)


def log_picture(trainer: pl.Trainer, name: str, picture: Image.Image, images_seen: int) -> None:
    """Send a picture to the loggers that can show it.

    Args:
        trainer: trainer with the loggers.
        name: name of the picture in the loggers.
        picture: picture to show.
        images_seen: number of training images seen, which is the loggers' step.
    """
    for logger in trainer.loggers:
        if isinstance(logger, Tracker):
            logger.log_picture(name, picture, images_seen)
