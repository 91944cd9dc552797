"""Data of a second stage: what a finished run's model makes of its data, for another model to learn."""

import hashlib
from abc import abstractmethod
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from genlab.data.examples import Examples, Split
from genlab.data.module import SPLITS, DataModule
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.drawing import evaluating
from genlab.models.base import GenerativeModel
from genlab.runs.loading import Run, load


class EncodedDataModule(DataModule):
    """Encoded examples of a run as data. They are shown, and measured, as the run's model decodes them.

    They are computed once, with the run's best weights. Splits and classes are those of the run's data. Random
    transforms of training images, such as a binarization, are drawn once.

    Args:
        run: folder of the run whose model encodes.
        shape: shape of an encoded example.
        **options: further options of :class:`~genlab.data.module.DataModule`.

    Raises:
        InputError: if the run's model cannot encode so, or is class-conditional.
    """

    def __init__(self, run: str, shape: tuple[int, ...], **options: Any) -> None:
        self.run = load(run)
        name = f"{self.modality.noun} of {self.run.config['choices']['dataset']}"
        super().__init__(_Encoded(self), name, shape, **options)

    @abstractmethod
    def encode(self, model: GenerativeModel, x: Tensor) -> Tensor:
        """Encode examples, ``(B, *S)``, to what is stored, ``(B, *shape)``."""

    @abstractmethod
    def encoder(self) -> GenerativeModel:
        """Give the run's model, or raise InputError if it cannot encode so."""

    @property
    def pictured(self) -> DataModule:
        return self.run.data

    @property
    def protocol(self) -> dict[str, object]:
        return {**super().protocol, "run": self.run.folder.path.name, "weights": self.run.used_weights}

    def sha256(self, split: Split) -> str:
        """Give a hash of the weights that encode and of the examples that they encode.

        What they are encoded to is not hashed, because another device may round it otherwise.
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
                f"dataset {self.name}: shape={list(self.shape)} is stated, the {self.modality.noun} are "
                f"{list(examples.images.shape[1:])}"
            )


def without_classes(run: Run) -> GenerativeModel:
    """Give a run's model.

    Raises:
        InputError: if it is class-conditional, because its codes or latents then depend on classes.
    """
    if run.model.num_classes is not None:
        raise InputError(
            f"dataset.run={run.folder.path}: its model is class-conditional; train that model without classes, "
            "and only the prior with them"
        )
    return run.model


class _Encoded:
    """Source of an :class:`EncodedDataModule`."""

    def __init__(self, of: EncodedDataModule) -> None:
        self.of = of

    def load(self) -> dict[Split, Examples]:
        model, run = self.of.encoder(), self.of.run
        data, noun = run.data, self.of.modality.noun
        splits: dict[Split, Examples] = {}
        with with_progress(noun, sum(len(data.splits[split]) for split in SPLITS)) as advance, evaluating(model):
            for split in SPLITS:
                encoded = []
                for x, _ in data.batches(split, device=run.device, augment=False):
                    encoded.append(self.of.encode(model, x).cpu())
                    advance(len(x))
                splits[split] = Examples(torch.cat(encoded), data.splits[split].labels)
        return splits
