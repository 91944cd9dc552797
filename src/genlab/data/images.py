"""The DataModule of every image data set: a source, the facts stated of it, and what is done to a batch."""

from collections.abc import Iterator
from typing import Literal

import pytorch_lightning as pl
import torch
from torch import Tensor

from genlab.data.batches import Batches
from genlab.data.examples import Examples, ImageSource, Split
from genlab.distributions.noise import indexed_uniform, mix
from genlab.errors import InputError

SPLITS: tuple[Split, ...] = ("train", "val", "test")


class ImageDataModule(pl.LightningDataModule):
    """Images as float in [0, 1], ``(B, C, H, W)``, and classes, int64 ``(B,)``.

    Data lives as uint8 on the device and becomes a float batch there. What is random about the data (order, flips,
    dynamic binarization) is a function of ``(seed, epoch, index)``; validation and test see one fixed draw, from
    ``eval_seed``, so that their numbers compare between runs.

    Args:
        source: where the images come from.
        name: of the data set.
        shape: ``(C, H, W)`` as stated; checked against the data.
        kind: ``"binary"`` draws each pixel as a Bernoulli of its grey level, anew each epoch of training.
        levels: grey levels that the models see; 2 for binary data.
        source_levels: grey levels stored, ``levels`` if left out.
        num_classes: as stated; ``None`` for data without classes.
        batch_size: of training, over all devices.
        eval_batch_size: of validation and test.
        val_size: examples held out from train where the source has no validation split; a number, or a share below 1.
        test_size: likewise for test.
        split_seed: of the held-out choice; the same for every run, so that runs compare.
        train_size: train on so many of the training images only.
        flip: mirror half of the training images.
        num_workers: processes that read images which do not fit in memory.
    """

    def __init__(
        self,
        source: ImageSource,
        name: str,
        shape: tuple[int, int, int],
        kind: Literal["image", "binary"] = "image",
        levels: int = 256,
        source_levels: int | None = None,
        num_classes: int | None = None,
        batch_size: int = 128,
        eval_batch_size: int = 500,
        val_size: int | float = 0.1,
        test_size: int | float = 0.1,
        split_seed: int = 0,
        train_size: int | None = None,
        flip: bool = False,
        seed: int = 0,
        eval_seed: int = 0,
        num_workers: int = 2,
    ) -> None:
        super().__init__()
        if (kind == "binary") != (levels == 2):
            raise InputError(f"dataset {name}: kind={kind} with levels={levels}; binary data has 2 levels")
        if batch_size < 1 or eval_batch_size < 1:
            raise InputError(f"dataset {name}: a batch holds at least one example")
        self.source, self.name, self.shape, self.kind, self.levels = source, name, shape, kind, levels
        self.source_levels = source_levels or levels
        self.num_classes, self.batch_size, self.eval_batch_size = num_classes, batch_size, eval_batch_size
        self.val_size, self.test_size, self.split_seed = val_size, test_size, split_seed
        self.train_size = train_size
        self.flip, self.seed, self.eval_seed, self.num_workers = flip, seed, eval_seed, num_workers
        self.splits: dict[Split, Examples] = {}
        self._training: Batches | None = None
        self._resumed: dict[str, int] = {}

    @property
    def protocol(self) -> dict[str, object]:
        """What a number measured on this data must say about it."""
        protocol: dict[str, object] = {"dataset": self.name, "levels": self.levels}
        if self.kind == "binary":
            protocol["binarization"] = f"train: redrawn each epoch; val, test: one draw, seed {self.eval_seed}"
        if self.splits:
            protocol["sizes"] = {split: len(self.splits[split]) for split in SPLITS}
        return protocol

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
                raise InputError(f"dataset {self.name}: {split}_size={size} of {len(train)} images leaves no data")
            splits[split], order = train.subset(order[:held_out]), order[held_out:]  # type: ignore[index]
        splits["train"] = train.subset(order.sort().values) if len(order) < len(train) else train
        if self.train_size is not None:
            splits["train"] = splits["train"].subset(torch.arange(min(self.train_size, len(splits["train"]))))
        if len(splits["train"]) < self.batch_size:
            raise InputError(
                f"dataset {self.name}: {len(splits['train'])} training images do not fill one batch of "
                f"{self.batch_size}; lower dataset.batch_size"
            )
        for split in SPLITS:
            self._check(split, splits[split])
        self.splits = splits

    def _check(self, split: Split, examples: Examples) -> None:
        probe = examples.take(torch.arange(min(len(examples), 256)))
        if probe.shape[1:] != torch.Size(self.shape):
            raise InputError(
                f"dataset {self.name}: shape={list(self.shape)} is stated, the {split} images are "
                f"{list(probe.shape[1:])}; set dataset.shape to that"
            )
        if (highest := int(probe.max())) >= self.source_levels:
            raise InputError(
                f"dataset {self.name}: {self.source_levels} levels are stated, {split} has the value {highest}"
            )
        if self.num_classes is not None and (most := int(examples.labels.max())) >= self.num_classes:
            raise InputError(
                f"dataset {self.name}: num_classes={self.num_classes} is stated, {split} has the class {most}"
            )

    def _transform(self, split: Split, augment: bool = True) -> "ToModel":
        train = split == "train"
        return ToModel(
            self.source_levels,
            flip=self.flip and train and augment,
            binarize=self.kind == "binary",
            # Each split its own stream, so that no test image shares its draw with a training image.
            seed=mix(self.seed if train and augment else self.eval_seed, SPLITS.index(split)),
        )

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
            self._transform(split, augment),
            batch_size or self.eval_batch_size,
            shuffle=False,
            device=device or torch.device("cpu"),
            num_workers=self.num_workers,
        )

    def images(self, split: Split, num: int | None = None) -> Tensor:
        """The first ``num`` images of a split as a model sees them, float in [0, 1], ``(num, C, H, W)``, on the CPU."""
        taken: list[Tensor] = []
        left = len(self.splits[split]) if num is None else num
        passes: Iterator[tuple[Tensor, Tensor]] = iter(self.batches(split))
        while left > 0 and (batch := next(passes, None)) is not None:
            taken.append(batch[0][:left])
            left -= len(taken[-1])
        return torch.cat(taken)

    def _loader(self, split: Split) -> Batches:
        train = split == "train"
        trainer = self.trainer
        return Batches(
            self.splits[split],
            self._transform(split),
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


class ToModel:
    """uint8 grey levels to what the models see: floats in [0, 1], flipped and binarized on the way."""

    def __init__(self, levels: int, *, flip: bool, binarize: bool, seed: int) -> None:
        self.levels, self.flip, self.binarize, self.seed = levels, flip, binarize, seed

    def __call__(self, images: Tensor, index: Tensor, epoch: int) -> Tensor:
        x = images.float() / (self.levels - 1)
        if not self.flip and not self.binarize:
            return x
        num = x[0].numel()
        u = indexed_uniform(index, num + 1, seed=self.seed, epoch=epoch)
        if self.flip:
            x = torch.where((u[:, -1] < 0.5).view(-1, 1, 1, 1), x.flip(-1), x)
        if self.binarize:
            x = (u[:, :num].view_as(x) < x).float()
        return x
