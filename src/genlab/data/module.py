"""The base of every DataModule: a source, its splits, and batches whose order and random draws are reproducible."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch
from pydantic import NonNegativeInt, PositiveInt
from torch import Tensor

from genlab.data.batches import Batches, Transform
from genlab.data.checks import checked_splits
from genlab.data.examples import Examples, Source, Split, is_fixed
from genlab.data.holding_out import held_out
from genlab.errors import InputError
from genlab.modalities.modality import Modality

SPLITS: tuple[Split, ...] = ("train", "val", "test")


class DataModule(pl.LightningDataModule, ABC):
    """Data set that gives batches ``(x, y)``: examples as models see them, and their classes.

    ``y`` is int64 ``(B,)``, zeros if the data has no classes. Data is kept on the device as it is stored, and becomes
    batches there. All randomness (order and augmentation) is a function of ``(seed, epoch, index)``. Validation and
    test use one fixed draw, from ``eval_seed``, so that their results are comparable between runs.

    Args:
        source: source of the data.
        name: name of the data set.
        shape: shape of an example; checked against the data.
        levels: number of values that each dimension can take; ``None`` for real numbers.
        num_classes: number of classes, checked against the data; ``None`` for data without classes.
        batch_size: number of training examples in a batch, over all devices.
        eval_batch_size: number of validation or test examples in a batch.
        val_size: number of examples, or a fraction below 1, to hold out from train if the source has no validation
            split; see :mod:`genlab.data.holding_out`.
        test_size: the same for the test split.
        split_seed: random seed of the held-out choice; the same for every run, so that runs are comparable.
        train_size: number of training examples to use; ``None`` for all.
        seed: random seed of the order and of the random draws in training.
        eval_seed: random seed of the random draws in validation and test.
        num_workers: number of processes that read data which does not fit in memory.

    Raises:
        InputError: if a batch size or ``train_size`` is below 1, or the modality does not allow this shape.
    """

    def __init__(
        self,
        source: Source,
        name: str,
        shape: tuple[int, ...],
        *,
        levels: int | None,
        num_classes: PositiveInt | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_size: int | float = 0.1,
        test_size: int | float = 0.1,
        split_seed: int = 0,
        train_size: PositiveInt | None = None,
        seed: int = 0,
        eval_seed: int = 0,
        num_workers: NonNegativeInt = 2,
    ) -> None:
        super().__init__()
        if batch_size < 1 or eval_batch_size < 1:
            raise InputError(f"dataset {name}: a batch holds at least one example")
        if train_size is not None and train_size < 1:
            raise InputError(f"dataset {name}: train_size={train_size}; at least one example, or null for all")
        self.modality.check(shape)
        self.source, self.name, self.shape, self.levels = source, name, tuple(shape), levels
        self.num_classes, self.batch_size, self.eval_batch_size = num_classes, batch_size, eval_batch_size
        self.val_size, self.test_size, self.split_seed = val_size, test_size, split_seed
        self.train_size = train_size
        self.seed, self.eval_seed, self.num_workers = seed, eval_seed, num_workers
        self.splits: dict[Split, Examples] = {}
        self._by_name = True  # whether examples that have names are held out by them
        self._sha256: dict[Split, str | None] = {}
        self._training: Batches | None = None
        self._resumed: dict[str, int] = {}

    @property
    @abstractmethod
    def modality(self) -> Modality:
        """The modality of the examples; known before any data is loaded."""

    @property
    def kind(self) -> str:
        """The name of the modality."""
        return self.modality.name

    @property
    def num_initial(self) -> int:
        """The number of training examples from which models initialize what depends on the data."""
        return 1024

    @property
    def pictured(self) -> "DataModule":
        """The data set whose examples are shown, and compared with samples.

        It differs from this one if models see something else, such as codes.
        """
        return self

    def decode(self, x: Tensor) -> Tensor:
        """Convert examples as models see them to examples of :attr:`pictured`."""
        return x

    @property
    def protocol(self) -> dict[str, object]:
        """Facts about the data that must accompany every result measured on it."""
        protocol: dict[str, object] = {"dataset": self.name}
        if self.levels is not None:
            protocol["levels"] = self.levels
        if self.splits:
            protocol["sizes"] = self.sizes
            if (found := self.sha256("test")) is not None:
                protocol["test_sha256"] = found  # data sets may share a name; the hash tells them apart
            elif self.split_seed:  # as the name of a fixed data set does, if it is split as usual
                protocol["split_seed"] = self.split_seed
        return protocol

    # -- which examples these are --------------------------------------------------------------------------------------

    @property
    def sizes(self) -> dict[str, int]:
        """The number of examples in each split."""
        self.setup()
        return {split: len(self.splits[split]) for split in SPLITS}

    def sha256(self, split: Split) -> str | None:
        """Give a hash of the examples of a split; ``None`` if the source's class and arguments alone decide them."""
        self.setup()
        if split not in self._sha256:
            self._sha256[split] = None if is_fixed(self.source) else self.splits[split].identity()
        return self._sha256[split]

    @property
    def identity(self) -> dict[str, Any]:
        """What tells these examples from others, for a run's checkpoints: plain values."""
        return {
            "held_out": "name" if self._by_name else "order",
            "sizes": self.sizes,
            "sha256": {split: self.sha256(split) for split in SPLITS},
        }

    def hold_out_as(self, identity: Mapping[str, Any]) -> None:
        """Hold out examples by the rule of a run; to be called before the data is loaded.

        Args:
            identity: the run's :attr:`identity`; empty for a run of an earlier version, which held out by position.
        """
        self._by_name = identity.get("held_out", "order") == "name"

    def difference(self, identity: Mapping[str, Any]) -> str | None:
        """Say in what these examples differ from those of a run; ``None`` if nothing shows a difference.

        Args:
            identity: the run's :attr:`identity`, or a part of it.
        """
        self.setup()
        sizes, hashes = (
            {**part} if isinstance(part := identity.get(key), Mapping) else {} for key in ("sizes", "sha256")
        )
        found = []
        for split in SPLITS:
            before, now = sizes.get(split), len(self.splits[split])
            known, sha256 = hashes.get(split), self.sha256(split)
            if isinstance(before, int) and before != now:
                found.append(f"{split} had {before:,} and has {now:,} examples")
            elif isinstance(known, str) and sha256 is not None and known != sha256:
                found.append(f"{split} has {now:,} examples as before, but others")
        return "; ".join(found) or None

    def keep(self, folder: Path) -> None:
        """Write to a run's folder the files without which its model cannot be used, such as a tokenizer."""

    @abstractmethod
    def check(self, split: Split, examples: Examples) -> None:
        """Raise InputError if a split does not agree with the config.

        What is the same for all data is checked before: that there are examples, and a class for each of them.
        """

    @abstractmethod
    def transform(self, split: Split, augment: bool = True) -> Transform:
        """Give the function that converts a batch of a split from stored examples to examples as models see them.

        Args:
            split: name of the split.
            augment: whether to augment training examples.
        """

    def per_example(self, split: Split) -> dict[str, float]:
        """Give the divisors that turn nats per example into other units (e.g. bits per byte), averaged over a split."""
        return {}

    def setup(self, stage: str | None = None) -> None:
        """Load the splits, hold out the missing ones and check all, on the first call only.

        Raises:
            InputError: if the data is missing, or does not agree with the config.
        """
        if self.splits:
            return
        splits = checked_splits(str(self.name), self.source.load(), self.num_classes)
        wanted: dict[Split, int | float] = {"val": self.val_size, "test": self.test_size}
        if missing := {split: size for split, size in wanted.items() if split not in splits}:
            train = splits["train"]
            chosen = held_out(train, missing, self.split_seed, self._by_name, str(self.name))
            splits |= {split: train.subset(index) for split, index in chosen.items()}
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
        """Give the batches of one pass over a split in the order of its data, in one process.

        Args:
            split: name of the split.
            device: device on which the batches are made; ``None`` for the CPU.
            batch_size: number of examples in a batch; ``None`` for ``eval_batch_size``.
            augment: whether to augment training examples.
        """
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
        """Give the first ``num`` examples of a split (all if None) as models see them, ``(num, ...)``, on the CPU."""
        taken: list[Tensor] = []
        left = len(self.splits[split]) if num is None else num
        passes: Iterator[tuple[Tensor, Tensor]] = iter(self.batches(split))
        while left > 0 and (batch := next(passes, None)) is not None:
            taken.append(batch[0][:left])
            left -= len(taken[-1])
        return torch.cat(taken)

    def some(self, split: Split, num: int) -> tuple[Tensor, Tensor]:
        """Give at most ``num`` examples, evenly spaced over a split, as models see them, with classes, on the CPU."""
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
        """Give the epoch and position in the training data; Lightning saves them in checkpoints.

        Lightning also saves the state of the loader, but restores it only in the middle of an epoch.
        """
        return self._training.state_dict() if self._training is not None else {}

    def load_state_dict(self, state_dict: dict[str, int]) -> None:
        self._resumed = state_dict

    def val_dataloader(self) -> Batches:
        return self._loader("val")

    def test_dataloader(self) -> Batches:
        return self._loader("test")
