"""Batches whose order is a function of (seed, epoch), made on the device from data that is stored there.

PyTorch's loaders under Lightning restart an interrupted epoch and shuffle in their own order under DDP. This one saves
its state in Lightning's checkpoint and continues with the next batch.
"""

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from genlab.data.examples import Examples
from genlab.distributions.noise import mix
from genlab.errors import InputError

Transform = Callable[[Tensor, Tensor, int], Tensor]

# Values of examples that are transformed together, by the type of device: several small batches at once, because each
# operation takes as long to start as it takes for many values; on a CPU no more than stay in its cache.
TOGETHER = {"cpu": 2**15, "cuda": 2**21}


class Batches:
    """An epoch of ``(x, y)`` batches; iterate it again for the next epoch.

    Args:
        examples: examples of the split.
        transform: function ``(stored examples, int64 indices, epoch) -> x``, run on ``device``.
        batch_size: number of examples in a batch, over all processes; each process takes its share of every batch.
        shuffle: whether each epoch has a new order and new random draws, and only full batches (for training);
            otherwise every epoch is the same: all examples, in the order of the data.
        seed: random seed of the order.
        device: device on which the batches are made, and on which data in memory is stored.
        rank: rank of this process.
        world_size: number of processes.
        num_workers: number of processes that read data which is not in memory.

    Raises:
        InputError: if ``shuffle`` is set and the examples do not fill one batch, or a batch does not divide evenly over
            the processes.
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
            self.position = 0  # start every validation pass at the first batch, even if the last one was interrupted
        elif self.position >= len(self):
            self.epoch, self.position = self.epoch + 1, 0
        return self._batches(self.epoch, self._order())

    def _order(self) -> list[Tensor]:
        """Give this process's share of the indices of every batch that remains in the epoch."""
        n = len(self.examples)
        if self.shuffle:
            order = torch.randperm(n, generator=torch.Generator().manual_seed(mix(self.seed, self.epoch)))
        else:
            order = torch.arange(n)
        if self.examples.images is not None:
            order = order.to(self.device)  # all at once: a copy at every step would synchronize with the device
        batches = order.split(self.batch_size)[self.position : len(self)]
        shares = [batch[self.rank :: self.world_size] for batch in batches]
        return [share for share in shares if len(share)]  # the last batch of an evaluation may leave a process nothing

    def _batches(self, epoch: int, order: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        taken: Iterator[tuple[Tensor, Tensor]]
        if self.examples.images is not None:
            yield from self._in_memory(epoch, order)
            return
        if self.examples.kept_by_reader is not None:
            taken = ((self.examples.take(index).to(self.device), index.to(self.device)) for index in order)
        else:
            taken = self._read(order)
        for images, index in taken:
            self.position += 1
            labels = self.examples.labels[index.to(self.examples.labels.device)].to(self.device)
            yield self.transform(images, index, epoch), labels

    def _in_memory(self, epoch: int, order: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        """Make several batches at once, of which each example is what it would be alone, and give one after another."""
        assert self.examples.images is not None
        values = self.batch_size * math.prod(self.examples.images.shape[1:])
        number = max(1, TOGETHER.get(self.device.type, 0) // max(1, values))
        for start in range(0, len(order), number):
            shares = order[start : start + number]
            index = shares[0] if len(shares) == 1 else torch.cat(shares)
            x, y = self.transform(self.examples.take(index), index, epoch), self.examples.labels[index]
            sizes = [len(share) for share in shares]
            for batch in zip(x.split(sizes), y.split(sizes), strict=True):
                self.position += 1
                yield batch

    def _read(self, order: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
        loader = DataLoader(
            _Files(self.examples),
            batch_sampler=[index.tolist() for index in order],
            num_workers=self.num_workers,
            # A separate generator: the loader must not draw its base seed from the generator of the training.
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
        assert examples.read is not None
        self.read, self.size = examples.read, len(examples)  # and not the names, of which each worker would get a copy

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.read(index), index
