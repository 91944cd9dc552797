"""The choice of the examples that are held out for validation and test from data that has no such splits."""

import hashlib
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from genlab.data.examples import Examples, Split
from genlab.distributions.noise import mix
from genlab.errors import InputError

HASHES = 2**64  # number of different hashes of a name


def held_out(
    train: Examples, sizes: Mapping[Split, int | float], seed: int, by_name: bool, data: str
) -> dict[Split, Tensor]:
    """Choose the examples to hold out from train, and those that are left to train on.

    Args:
        train: examples to choose from.
        sizes: number of examples, or a fraction below 1, of each split to hold out: ``"val"``, ``"test"`` or both.
        seed: random seed of the choice.
        by_name: whether to choose by a hash of each example's name, if examples have names; see :func:`ranked`.
        data: name of the data set, for messages.

    Returns:
        int64 indices of the examples of each split in ``sizes``, and of ``"train"``.

    Raises:
        InputError: if a size leaves no examples for a split.
    """
    num = len(train)
    if by_name and train.names is not None:
        order, hashes = ranked(train.names, seed)
    else:
        order, hashes = torch.randperm(num, generator=torch.Generator().manual_seed(mix(seed))), None
    chosen: dict[Split, Tensor] = {}
    for split, size in sizes.items():
        count = _count(size, num, hashes, from_below=split == "val")
        if not 0 < count < len(order):
            raise InputError(f"dataset {data}: {split}_size={size} of {num} examples leaves no data")
        if hashes is None or split == "val":
            chosen[split], order = order[:count], order[count:]
        else:
            chosen[split], order = order[len(order) - count :], order[: len(order) - count]
    chosen["train"] = order.sort().values
    return chosen


def ranked(names: Sequence[str], seed: int) -> tuple[Tensor, list[int]]:
    """Rank examples by a hash of their names, int64 ``(N,)``, and give the sorted hashes, of ``[0, HASHES)``.

    Validation takes the lowest hashes and test the highest, so that the size of one does not change the other. A
    fraction takes the hashes below (or above) a bound that does not depend on the other examples: an example stays in
    its split whatever is added or taken away, and the size of a split is only about its fraction. The smallest of
    a fraction's share would have an exact size, but its bound, and with it examples from train, would move with every
    file. A number takes that many: a new example among them moves one of them to train, and one that is taken away
    brings one of train.

    Args:
        names: name of each example.
        seed: random seed of the hash.
    """
    hashes = [
        int.from_bytes(hashlib.sha256(f"{seed}/{name}".encode(errors="surrogatepass")).digest()[:8], "big")
        for name in names
    ]
    order = sorted(range(len(names)), key=lambda i: (hashes[i], names[i]))
    return torch.tensor(order, dtype=torch.long), [hashes[i] for i in order]


def _count(size: int | float, num: int, hashes: list[int] | None, from_below: bool) -> int:
    """Count the examples that a size holds out; a fraction of hashes holds out one at least."""
    if not size > 0 or (size >= 1 and size != int(size)):
        return 0
    if size >= 1 or hashes is None:
        return round(size * num) if size < 1 else int(size)
    bound = int(size * HASHES)
    return max(1, sum(value < bound if from_below else value >= HASHES - bound for value in hashes))
