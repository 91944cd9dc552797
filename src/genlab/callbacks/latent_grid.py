"""Pictures of what a model's latents keep of validation images, drawn during training."""

from pathlib import Path

import pytorch_lightning as pl
from PIL import Image
from pydantic import PositiveInt
from torch import Tensor

from genlab.callbacks.sample_grid import log_picture
from genlab.metrics.drawing import evaluating, own_randomness
from genlab.models.abilities import LatentModel
from genlab.pictures.files import save_png
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels
from genlab.pictures.scatter import scatter_classes
from genlab.training.module import TrainingModule
from genlab.views.interpolate import WAY, shares
from genlab.views.latents import Latents, has_latents, interpolations, reconstructions
from genlab.views.manifold import manifold, of_plane
from genlab.views.reconstruct import PAIRS


class LatentGrid(pl.Callback):
    """A callback that writes ``reconstructions-<images seen>.png`` and ``interpolations-<images seen>.png``.

    It does so for models of images with latents; models without an encoder have no reconstructions. For unconditional
    models with two latents, it also writes ``manifold-<images seen>.png``, images decoded from all over the plane, and
    ``encodings-<images seen>.png``, the latents of validation images coloured by class.

    Args:
        folder: folder of the pictures.
        num_images: number of validation images to reconstruct; between pairs of them, images are interpolated.
        steps: number of images from one image of a pair to the other.
        every_n_validations: number of validations between two sets of pictures.
    """

    def __init__(
        self, folder: str, num_images: PositiveInt = 16, steps: int = 8, every_n_validations: PositiveInt = 1
    ) -> None:
        self.folder = Path(folder)
        self.num_images, self.steps, self.every_n_validations = num_images, steps, every_n_validations
        self.validations = 0
        self._batch: tuple[Tensor, Tensor] | None = None

    def on_validation_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        assert isinstance(module, TrainingModule)
        self.validations += 1
        if trainer.sanity_checking or (self.validations - 1) % self.every_n_validations:
            return
        model = module.sampling_model
        modality = trainer.datamodule.modality  # type: ignore[attr-defined]
        if not trainer.is_global_zero or not modality.is_tiled or not has_latents(model):
            return
        if self._batch is None:
            data = trainer.datamodule  # type: ignore[attr-defined]
            self._batch = next(iter(data.batches("val", device=module.device, batch_size=self.num_images)))
        x, y = self._batch
        with own_randomness(0, module.device), evaluating(model):
            found = {
                "reconstructions": _sheet(reconstructions(model, x, y), 8, PAIRS),
                "interpolations": _sheet(
                    interpolations(model, x, y, self.steps), self.steps, Labels(shares(self.steps), title=WAY)
                ),
            }
        if isinstance(model, LatentModel) and getattr(model, "latent_dim", None) == 2 and model.num_classes is None:
            latents = Latents(model)
            images, classes = trainer.datamodule.some("val", 2000)  # type: ignore[attr-defined]
            found["encodings"] = scatter_classes(latents.encode(images, None), classes)
            found["manifold"] = _sheet(manifold(latents, None, 16), 16, of_plane(16))
        for name, picture in found.items():
            if picture is not None:
                save_png(picture, self.folder / f"{name}-{module.images_seen:010d}.png")
                log_picture(trainer, name, picture, module.images_seen)

    def state_dict(self) -> dict[str, int]:
        return {"validations": self.validations}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.validations = state["validations"]


def _sheet(images: Tensor | None, columns: int, labels: Labels) -> Image.Image | None:
    return None if images is None else grid(images, columns=columns, labels=labels)
