"""Measure how much information a model's latents carry, and warn when they carry nearly none."""

import sys
from pathlib import Path

import pytorch_lightning as pl
import torch
from pydantic import PositiveInt
from torch import Tensor

from genlab.callbacks.sample_grid import log_picture
from genlab.metrics.drawing import evaluating, own_randomness
from genlab.models.abilities import Diagnosable
from genlab.models.base import GenerativeModel
from genlab.pictures.bars import bars
from genlab.pictures.files import save_png
from genlab.training.module import TrainingModule

COLLAPSED = {
    "rate": (
        0.1,
        "the posterior has collapsed: the latents of an image carry {value:.3f} nats, and the decoder ignores them. "
        "A KL weight that rises (model.objective.warmup_images), free bits (model.objective.free_bits) or a weaker "
        "decoder helps",
    ),
    "codebook_use": (
        0.1,
        "the codebook has collapsed: {value:.1%} of the codes are used. Fewer codes (model.num_codes) or another seed "
        "helps",
    ),
}
PATIENCE = 3  # diagnoses in a row that find a collapse before it is said


class LatentWatch(pl.Callback):
    """A callback that reports the figures of a model's ``diagnose``, such as ``val/rate`` and ``val/active_units``.

    A figure with one value per latent becomes the picture ``<name>-<images seen>.png``. A warning is printed when a
    figure is too low for the third diagnosis in a row, because a model that has only begun to learn says little of an
    image either; it is printed once, and again only if all was well in between.

    Args:
        folder: folder of the pictures.
        num_images: number of validation images to diagnose.
        every_n_validations: number of validations between two diagnoses.
    """

    def __init__(self, folder: str, num_images: PositiveInt = 1000, every_n_validations: PositiveInt = 1) -> None:
        self.folder, self.num_images, self.every_n_validations = Path(folder), num_images, every_n_validations
        self.validations = 0
        self._images: tuple[Tensor, Tensor] | None = None
        self._said: set[str] = set()
        self._times_wrong: dict[str, int] = {}

    def on_validation_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        model = module.sampling_model
        if trainer.sanity_checking or not isinstance(model, Diagnosable) or not isinstance(model, GenerativeModel):
            return
        self.validations += 1
        if (self.validations - 1) % self.every_n_validations:
            return
        if self._images is None:
            num = min(self.num_images, model.most_diagnosed or self.num_images)
            self._images = trainer.datamodule.some("val", num)  # type: ignore[attr-defined]
        x, y = (part.to(module.device) for part in self._images)
        # Every process computes the same figures, because all of them report.
        with own_randomness(0, module.device), evaluating(model):
            found = model.diagnose(x, y)
        figures = {name: float(value) for name, value in found.items() if not isinstance(value, torch.Tensor)}
        module.report({f"val/{name}": value for name, value in figures.items()})
        if not trainer.is_global_zero:
            return
        for name, value in found.items():
            if isinstance(value, torch.Tensor):
                picture = bars(value, name.replace("_", " "))
                save_png(picture, self.folder / f"{name}-{module.images_seen:010d}.png")
                log_picture(trainer, name, picture, module.images_seen)
        for name, (least, line) in COLLAPSED.items():
            if name in figures:
                self._say_if(figures[name] < least, name, line.format(value=figures[name]))

    def _say_if(self, wrong: bool, what: str, line: str) -> None:
        times = self._times_wrong[what] = self._times_wrong.get(what, 0) + 1 if wrong else 0
        if times >= PATIENCE and what not in self._said:
            print(f"genlab: warning: {line}", file=sys.stderr)
            self._said.add(what)
        elif not wrong:
            self._said.discard(what)

    def state_dict(self) -> dict[str, object]:
        return {"validations": self.validations, "said": sorted(self._said), "times_wrong": dict(self._times_wrong)}

    def load_state_dict(self, state: dict[str, object]) -> None:
        self.validations = state["validations"]  # type: ignore[assignment]
        self._said = set(state["said"])  # type: ignore[call-overload]
        self._times_wrong = dict(state.get("times_wrong", {}))  # type: ignore[call-overload]
