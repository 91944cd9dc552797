"""Data of the second stage of a VQ-VAE: the codes that a finished run gives to its data, for a prior to learn.

Neural Discrete Representation Learning (arXiv:1711.00937), section 3.3.
"""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from genlab.composition.building import build
from genlab.data.batches import Transform
from genlab.data.examples import Examples, Split
from genlab.errors import InputError
from genlab.metrics.drawing import evaluating
from genlab.metrics.modes import Modes
from genlab.modalities.codes import Codes
from genlab.models.abilities import DiscreteLatents
from genlab.models.base import GenerativeModel
from genlab.runs.encoded import EncodedDataModule, without_classes
from genlab.runs.loading import load


class CodesDataModule(EncodedDataModule):
    """Codes of a run's images as data, float ``(B, *code_shape)`` with code k as k / (levels - 1).

    Args:
        run: folder of the run whose model encodes.
        shape: shape of an example's codes.
        levels: number of codes in the codebook.
        kind: kind of data, for the check that the model can learn it.
        num_classes: number of classes; None for data without classes.
        train_size: number of training examples to use; None for all.
        batch_size: number of examples in a batch.
        seed: random seed of the order of training examples.

    Raises:
        InputError: if the run's model has no codes, or is class-conditional.
    """

    levels: int

    def __init__(
        self,
        run: str,
        shape: tuple[int, int, int],
        levels: int,
        kind: Literal["codes"] = "codes",
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
    def modality(self) -> Codes:
        return Codes()

    def encoder(self) -> GenerativeModel:
        if not isinstance(self.run.model, DiscreteLatents):
            raise InputError(
                f"dataset.run={self.run.folder.path}: its model has no codes; give a run of model=vae/vq_vae"
            )
        return without_classes(self.run)

    def encode(self, model: GenerativeModel, x: Tensor) -> Tensor:
        return cast(DiscreteLatents, model).codes(x).to(torch.int16)

    def decode(self, x: Tensor) -> Tensor:
        model = self.encoder()
        model.to(x.device)
        with evaluating(model):
            return cast(DiscreteLatents, model).decode_codes((x * (self.levels - 1)).round().long())

    def check(self, split: Split, examples: Examples) -> None:
        super().check(split, examples)
        assert examples.images is not None
        if (highest := int(examples.images.max())) >= self.levels:
            raise InputError(f"dataset {self.name}: levels={self.levels} is stated, {split} has the code {highest}")

    def transform(self, split: Split, augment: bool = True) -> Transform:
        return lambda codes, index, epoch: codes.float() / (self.levels - 1)


def features_of(run: str) -> nn.Module | None:
    """Build the feature extractor that a run is measured with; None if it has none.

    Args:
        run: folder of the run.
    """
    return cast(nn.Module | None, build(load(run).config["metrics"].get("features"), "metrics.features"))


def modes_of(run: str) -> Modes | None:
    """Build the counter of modes that a run is measured with; None if it has none.

    Args:
        run: folder of the run.
    """
    return cast(Modes | None, build(load(run).config["metrics"].get("modes"), "metrics.modes"))
