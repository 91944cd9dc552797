"""What every DataModule shares: a source, its splits, and batches whose order and draws can be made again."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from pathlib import Path

import pytorch_lightning as pl
import torch
from torch import Tensor

from genlab.data.batches import Batches, Transform
from genlab.data.examples import Examples, Source, Split
from genlab.distributions.noise import mix
from genlab.errors import InputError
from genlab.modalities.modality import Modality

SPLITS: tuple[Split, ...] = ("train", "val", "test")


class DataModule(pl.LightningDataModule, ABC):
    """Batches ``(x, y)`` of a data set: ``x`` as models see it, and classes, int64 ``(B,)``; zeros where it has none.

    Data lives on the device as it is stored, and becomes a batch there. What is random about it (order and
    augmentation) is a function of ``(seed, epoch, index)``; validation and test see one fixed draw, from ``eval_seed``,
    so that their numbers compare between runs.

    Args:
        source: where the data comes from.
        name: of the data set.
        shape: of an example, as stated; checked against the data.
        levels: that a value takes; ``None`` for real numbers.
        num_classes: as stated; ``None`` for data without classes.
        batch_size: of training, over all devices.
        eval_batch_size: of validation and test.
        val_size: examples held out from train where the source has no validation split; a number, or a share below 1.
        test_size: likewise for test.
        split_seed: of the held-out choice; the same for every run, so that runs compare.
        train_size: train on so many of the training examples only.
        seed: of the order and of what is drawn in training.
        eval_seed: of what is drawn for validation and test.
        num_workers: processes that read data which does not fit in memory.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        shape: tuple[int, ...],
        *,
        levels: int | None,
        num_classes: int | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_size: int | float = 0.1,
        test_size: int | float = 0.1,
        split_seed: int = 0,
        train_size: int | None = None,
        seed: int = 0,
        eval_seed: int = 0,
        num_workers: int = 2,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise InputError(f"dataset {name}: a batch holds at least one example")
        self.modality.check(shape)
        self.source, self.name, self.shape, self.levels = source, name, tuple(shape), levels
        self.num_classes, self.batch_size, self.eval_batch_size = num_classes, batch_size, eval_batch_size
        self.val_size, self.test_size, self.split_seed = val_size, test_size, split_seed
        self.train_size = train_size
        self.seed, self.eval_seed, self.num_workers = seed, eval_seed, num_workers
        self.splits: dict[Split, Examples] = {}
        self._training: Batches | None = None
        self._resumed: dict[str, int] = {}

    @property
    @abstractmethod
    def modality(self) -> Modality:
        """The kind of data that the examples are; known before anything is loaded."""

    @property
    def kind(self) -> str:
        """The name of the modality."""
        return self.modality.name

    @property
    def pictured(self) -> "DataModule":
        """The data that people look at and samples are measured against, where models see something else, as codes."""
        return self

    def decode(self, x: Tensor) -> Tensor:
        """Examples as models see them to examples of :attr:`pictured`."""
        return x

    @property
    def protocol(self) -> dict[str, object]:
        """What a number measured on this data must say about it."""
        protocol: dict[str, object] = {"dataset": self.name}
        if self.levels is not None:
            protocol["levels"] = self.levels
        if self.splits:
            protocol["sizes"] = {split: len(self.splits[split]) for split in SPLITS}
        return protocol

    def keep(self, folder: Path) -> None:
        """Write to a run's folder what its model cannot be used without, such as a tokenizer."""

    @abstractmethod
    def check(self, split: Split, examples: Examples) -> None:
        """Raises InputError where a split is not what the config states."""

    @abstractmethod
    def transform(self, split: Split, augment: bool = True) -> Transform:
        """From what is stored to what models see."""

    def per_example(self, split: Split) -> dict[str, float]:
        """What an example's nats are divided by, on average over a split, for each unit that its data is told in."""
        return {}

    def setup(self, stage: str | None = None) -> None:
        """Load, hold out and check the splits, once.

        Raises:
            InputError: where the data is missing, or is not what the config states.
        """
        if self.splits:
            return
        splits = self.source.load()
        train = splits["train"]
        order = torch.randperm(len(train), generator=torch.Generator().manual_seed(mix(self.split_seed)))
        for split, size in (("val", self.val_size), ("test", self.test_size)):
            if split in splits:
                continue
            held_out = round(size * len(train)) if size < 1 else int(size)
            if not 0 < held_out < len(order):
                raise InputError(f"dataset {self.name}: {split}_size={size} of {len(train)} examples leaves no data")
            splits[split], order = train.subset(order[:held_out]), order[held_out:]  # type: ignore[index]
        splits["train"] = train.subset(order.sort().values) if len(order) < len(train) else train
        if self.train_size is not None:
            splits["train"] = splits["train"].subset(torch.arange(min(self.train_size, len(splits["train"]))))
        if len(splits["train"]) < self.batch_size:
            raise InputError(
                f"dataset {self.name}: {len(splits['train'])} training examples do not fill one batch of "
                f"{self.batch_size}; lower dataset.batch_size"
            )
        for split in SPLITS:
            self.check(split, splits[split])
        self.splits = splits

    def batches(
        self,
        split: Split,
        *,
        device: torch.device | None = None,
        batch_size: int | None = None,
        augment: bool = True,
    ) -> Batches:
        """One pass over a split in its own order, on one process."""
        self.setup()
        return Batches(
            self.splits[split],
            self.transform(split, augment),
            batch_size or self.eval_batch_size,
            shuffle=False,
            device=device or torch.device("cpu"),
            num_workers=self.num_workers,
        )

    def first(self, split: Split, num: int | None = None) -> Tensor:
        """The first ``num`` examples of a split as a model sees them, ``(num, ...)``, on the CPU."""
        taken: list[Tensor] = []
        left = len(self.splits[split]) if num is None else num
        passes: Iterator[tuple[Tensor, Tensor]] = iter(self.batches(split))
        while left > 0 and (batch := next(passes, None)) is not None:
            taken.append(batch[0][:left])
            left -= len(taken[-1])
        return torch.cat(taken)

    def some(self, split: Split, num: int) -> tuple[Tensor, Tensor]:
        """At most ``num`` examples from all over a split, as a model sees them, and their classes, on the CPU."""
        self.setup()
        size = len(self.splits[split])
        index = torch.linspace(0, size - 1, min(num, size)).long()
        return self.transform(split, augment=False)(self.splits[split].take(index), index, 0), self.splits[
            split
        ].labels[index]

    def _loader(self, split: Split) -> Batches:
        train = split == "train"
        trainer = self.trainer
        return Batches(
            self.splits[split],
            self.transform(split),
            self.batch_size if train else self.eval_batch_size,
            shuffle=train,
            seed=self.seed,
            device=trainer.strategy.root_device if trainer else torch.device("cpu"),
            rank=trainer.global_rank if trainer else 0,
            world_size=trainer.world_size if trainer else 1,
            num_workers=self.num_workers,
        )

    def train_dataloader(self) -> Batches:
        self._training = self._loader("train")
        if self._resumed:
            self._training.load_state_dict(self._resumed)
        return self._training

    def state_dict(self) -> dict[str, int]:
        """Where training is in its data; Lightning puts it into checkpoints.

        Lightning also asks the loader itself, but gives it its state back only in the middle of an epoch.
        """
        return self._training.state_dict() if self._training is not None else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._resumed = state_dict

    def val_dataloader(self) -> Batches:
        return self._loader("val")

    def test_dataloader(self) -> Batches:
        return self._loader("test")
