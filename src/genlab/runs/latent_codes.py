"""The second stage of a model of codes: the codes of a VQ-VAE's run as data for a prior.

Neural Discrete Representation Learning (arXiv:1711.00937), section 3.3.
"""

from typing import Literal, cast

import torch
from torch import Tensor, nn

from genlab.composition.building import build
from genlab.data.batches import Transform
from genlab.data.examples import Examples, Split
from genlab.data.module import SPLITS, DataModule
from genlab.errors import InputError
from genlab.machine.progress import with_progress
from genlab.metrics.measure import evaluating
from genlab.metrics.modes import Modes
from genlab.modalities.codes import Codes
from genlab.models.base import DiscreteLatents, GenerativeModel
from genlab.runs.loading import Run, load


class CodesDataModule(DataModule):
    """Codes as images ``(B, *code_shape)`` of values k / (levels - 1), made once with the run's best weights.

    Train, val and test are the run's own, and so are the classes; what is drawn for training images, such as a
    binarization, is drawn once.

    Args:
        run: a folder.
        shape: of an example's codes.
        levels: the number of codes.
        num_classes, train_size, batch_size, seed: as of :class:`~genlab.data.module.DataModule`.

    Raises:
        InputError: the run's model has no codes, or is class-conditional.
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

    def check(self, split: Split, examples: Examples) -> None:
        assert examples.images is not None
        if examples.images.shape[1:] != torch.Size(self.shape):
            raise InputError(
                f"dataset {self.name}: shape={list(self.shape)} is stated, the codes are "
                f"{list(examples.images.shape[1:])}"
            )

    def transform(self, split: Split, augment: bool = True) -> Transform:
        return lambda codes, index, epoch: codes.float() / (self.levels - 1)


class _Codes:
    """The source of a :class:`CodesDataModule`."""

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
            f"dataset.run={run.folder.path}: its model is class-conditional; train it without classes, the prior with"
        )
    return model


def features_of(run: str) -> nn.Module | None:
    """What a run is measured in."""
    return cast(nn.Module | None, build(load(run).config["metrics"]["features"], "metrics.features"))


def modes_of(run: str) -> Modes | None:
    """What a run's measurements count."""
    return cast(Modes | None, build(load(run).config["metrics"]["modes"], "metrics.modes"))
