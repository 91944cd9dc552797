"""Batches whose order is a function of (seed, epoch), made on the device from data that lives there.

Lightning's own loaders restart an interrupted epoch and shuffle as they like under DDP; this one is asked for its
state by Lightning's checkpoint and continues at the next batch.
"""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genlab.data.examples import Examples
from genlab.distributions.noise import mix
from genlab.errors import InputError

Transform = Callable[[Tensor, Tensor, int], Tensor]


class Batches:
    """An epoch of ``(x, y)`` batches; iterate it again for the next epoch.

    Args:
        examples: the split.
        transform: ``(uint8 images, int64 indices, epoch) -> x``, run on ``device``.
        batch_size: of all processes together; each of them takes its share of every batch.
        shuffle: a new order and new draws each epoch, and only whole batches; else the data's own order, all of it, the
            same each time.
        device: where the data is kept, if it is in memory, and the batches are made.
        num_workers: processes that read data which is not in memory.
    """

    def __init__(
        self,
        examples: Examples,
        transform: Transform,
        batch_size: int,
        *,
        shuffle: bool,
        seed: int = 0,
        device: torch.device,
        rank: int = 0,
        world_size: int = 1,
        num_workers: int = 0,
    ) -> None:
        if shuffle and len(examples) < batch_size:
            raise InputError(f"{len(examples)} training examples do not fill one batch of {batch_size}")
        if shuffle and batch_size % world_size:
            raise InputError(f"a batch of {batch_size} does not divide over {world_size} devices")
        self.examples, self.transform = examples.to(device), transform
        self.batch_size, self.shuffle = batch_size, shuffle
        self.seed, self.device, self.rank, self.world_size = seed, device, rank, world_size
        self.num_workers = num_workers
        self.epoch = 0
        self.position = 0  # batches already given in this epoch

    def __len__(self) -> int:
        n = len(self.examples)
        return n // self.batch_size if self.shuffle else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        if not self.shuffle:
            self.position = 0  # every pass of validation is the same one, also after one that was cut short
        elif self.position >= len(self):
            self.epoch, self.position = self.epoch + 1, 0
        return self._batches(self.epoch, self._order())

    def _order(self) -> list[Tensor]:
        """This process's share of the indices of every batch that is left of the epoch."""
        n = len(self.examples)
        if self.shuffle:
            order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(self.seed, self.epoch)))
        else:
            order = torch.arange(n)
        if self.examples.images is not None:
            order = order.to(self.device)  # all of it: a copy at every step would have the device waited for
        batches = order.split(self.batch_size)[self.position : len(self)]
        shares = [batch[self.rank :: self.world_size] for batch in batches]
        return [share for share in shares if len(share)]  # the last one of an evaluation may be too small for all

    def _batches(self, epoch: int, order: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        taken: Iterator[tuple[Tensor, Tensor]]
        if self.examples.images is not None:
            taken = ((self.examples.take(index), index) for index in order)
        else:
            taken = self._read(order)
        for images, index in taken:
            self.position += 1
            labels = self.examples.labels[index.to(self.examples.labels.device)].to(self.device)
            yield self.transform(images, index, epoch), labels

    def _read(self, order: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            _Files(self.examples),
            batch_sampler=[index.tolist() for index in order],
            num_workers=self.num_workers,
            # Its own generator: the loader must not draw its base seed from the training's.
            generator=torch.Generator().manual_seed(self.seed),
        )
        for images, index in loader:
            yield images.to(self.device, non_blocking=True), index.to(self.device, non_blocking=True)

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self.epoch, self.position = state["epoch"], state["position"]


class _Files(Dataset[tuple[Tensor, int]]):
    def __init__(self, examples: Examples) -> None:
        self.examples = examples

    def __len__(self) -> int:
        return len(self.examples)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        assert self.examples.read is not None
        return self.examples.read(index), index
