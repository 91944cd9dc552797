"""Data of the second stage of a VQ-VAE: the codes that a finished run gives to its data, for a prior to learn.

Neural Discrete Representation Learning (arXiv:1711.00937), section 3.3.
"""

import hashlib
from functools import cached_property
from typing import Literal, cast

import torch
from torch import Tensor, nn

from genlab.composition.building import build
from genlab.data.batches import Transform
from genlab.data.examples import Examples, Split
from genlab.data.module import SPLITS, DataModule
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import evaluating
from genlab.metrics.modes import Modes
from genlab.modalities.codes import Codes
from genlab.models.base import DiscreteLatents, GenerativeModel
from genlab.runs.loading import Run, load


class CodesDataModule(DataModule):
    """Codes of a run's images as data, float ``(B, *code_shape)`` with code k as k / (levels - 1).

    The codes are computed once, with the run's best weights. Splits and classes are those of the run's data. Random
    transforms of training images, such as a binarization, are drawn once.

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
        self.run = load(run)
        super().__init__(
            _Codes(self.run),
            f"codes of {self.run.config['choices']['dataset']}",
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

    @property
    def pictured(self) -> DataModule:
        return self.run.data

    def decode(self, x: Tensor) -> Tensor:
        model = _with_codes(self.run)
        model.to(x.device)
        with evaluating(model):
            return cast(DiscreteLatents, model).decode_codes((x * (self.levels - 1)).round().long())

    @property
    def protocol(self) -> dict[str, object]:
        return {**super().protocol, "run": self.run.folder.path.name, "weights": self.run.used_weights}

    def sha256(self, split: Split) -> str:
        """Give a hash of the weights that encode and of the examples that they encode.

        The codes are not hashed, because another device may round a few of them to others.
        """
        digest = hashlib.sha256(self._weights.encode())
        digest.update(str(self.run.data.sha256(split)).encode())
        return digest.hexdigest()

    @cached_property
    def _weights(self) -> str:
        digest = hashlib.sha256()
        for name, value in self.run.model.state_dict().items():
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return digest.hexdigest()

    def check(self, split: Split, examples: Examples) -> None:
        assert examples.images is not None
        if examples.images.shape[1:] != torch.Size(self.shape):
            raise InputError(
                f"dataset {self.name}: shape={list(self.shape)} is stated, the codes are "
                f"{list(examples.images.shape[1:])}"
            )
        if (highest := int(examples.images.max())) >= self.levels:
            raise InputError(f"dataset {self.name}: levels={self.levels} is stated, {split} has the code {highest}")

    def transform(self, split: Split, augment: bool = True) -> Transform:
        return lambda codes, index, epoch: codes.float() / (self.levels - 1)


class _Codes:
    """Source of a :class:`CodesDataModule`: encodes the examples of a run's data."""

    def __init__(self, run: Run) -> None:
        self.run = run

    def load(self) -> dict[Split, Examples]:
        model, data = _with_codes(self.run), self.run.data
        splits: dict[Split, Examples] = {}
        with with_progress("codes", sum(len(data.splits[split]) for split in SPLITS)) as advance, evaluating(model):
            for split in SPLITS:
                codes = []
                for x, _ in data.batches(split, device=self.run.device, augment=False):
                    codes.append(cast(DiscreteLatents, model).codes(x).to(torch.int16).cpu())
                    advance(len(x))
                splits[split] = Examples(torch.cat(codes), data.splits[split].labels)
        return splits


def _with_codes(run: Run) -> GenerativeModel:
    model = run.model
    if not isinstance(model, DiscreteLatents):
        raise InputError(f"dataset.run={run.folder.path}: its model has no codes; give a run of model=vae/vq_vae")
    if model.num_classes is not None:
        raise InputError(
            f"dataset.run={run.folder.path}: its model is class-conditional; train that model without classes, "
            "and only the prior with them"
        )
    return model


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
