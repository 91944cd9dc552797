"""Data of a second stage in latents: those that a finished run's model gives to its data, for a prior to learn.

Latent diffusion (arXiv:2112.10752); two-stage VAEs (arXiv:1903.05789).
"""

from typing import Literal, cast

from torch import Tensor

from genlab.data.batches import Transform
from genlab.data.examples import Split
from genlab.errors import InputError
from genlab.metrics.drawing import evaluating
from genlab.modalities.latents import Latents
from genlab.models.abilities import LatentModel
from genlab.models.base import GenerativeModel
from genlab.runs.encoded import EncodedDataModule, without_classes


class LatentsDataModule(EncodedDataModule):
    """Latents of a run's examples as data: centres of a VAE's posteriors, ``(B, D)`` or grids ``(B, C, h, w)``.

    They are not scaled. Models that scale their data do so by the mean and standard deviation of all training latents,
    of each dimension of a vector or each channel of a grid.

    Args:
        run: folder of the run whose model encodes.
        shape: shape of an example's latents.
        levels: None, for latents are real numbers.
        kind: kind of data, for the check that the model can learn it.
        num_classes: number of classes; None for data without classes.
        train_size: number of training examples to use; None for all.
        batch_size: number of examples in a batch.
        seed: random seed of the order of training examples.

    Raises:
        InputError: if the run's model has no latents, or is class-conditional.
    """

    def __init__(
        self,
        run: str,
        shape: tuple[int, ...],
        levels: None = None,
        kind: Literal["latents"] = "latents",
        num_classes: int | None = None,
        train_size: int | None = None,
        batch_size: int = 128,
        seed: int = 0,
    ) -> None:
        super().__init__(
            run,
            shape,
            levels=levels,
            num_classes=num_classes,
            train_size=train_size,
            batch_size=batch_size,
            seed=seed,
        )

    @property
    def modality(self) -> Latents:
        return Latents()

    @property
    def num_initial(self) -> int:
        return len(self.splits["train"])

    def encoder(self) -> GenerativeModel:
        if not isinstance(self.run.model, LatentModel):
            raise InputError(
                f"dataset.run={self.run.folder.path}: its model has no latents; give a run of a VAE or a flow"
            )
        return without_classes(self.run)

    def encode(self, model: GenerativeModel, x: Tensor) -> Tensor:
        return cast(LatentModel, model).encode(x).float().view(-1, *self.shape)

    def decode(self, x: Tensor) -> Tensor:
        model = self.encoder()
        model.to(x.device)
        with evaluating(model):
            return cast(LatentModel, model).decode(x.flatten(1))

    def transform(self, split: Split, augment: bool = True) -> Transform:
        return lambda latents, index, epoch: latents
