"""Batches: the share of each process, the order of each epoch, where an epoch goes on, and files read by workers."""

from collections.abc import Iterable
from itertools import chain

import pytest
import torch
from torch import Tensor

from genlab.data.batches import TOGETHER, Batches
from genlab.data.examples import Examples
from genlab.data.images import ToModel
from genlab.distributions.noise import mix
from genlab.errors import InputError

CPU = torch.device("cpu")


class Numbered:
    """A reader of images that show their index."""

    def __call__(self, index: int) -> Tensor:
        return torch.full((1, 2, 2), index, dtype=torch.uint8)

    def fingerprint(self, indices: Iterable[int]) -> str:
        return repr(list(indices))


def examples(num: int, in_memory: bool) -> Examples:
    """Images that show their index, with classes that do so too."""
    labels = 3 * torch.arange(num) + 1
    read = Numbered()
    if not in_memory:
        return Examples(None, labels, read)
    return Examples(torch.stack([read(i) for i in range(num)]) if num else torch.empty(0, 1, 2, 2), labels)


def batches(num: int, batch_size: int, *, in_memory: bool = True, **options: object) -> Batches:
    def transform(images: Tensor, index: Tensor, epoch: int) -> Tensor:
        assert torch.equal(images[:, 0, 0, 0].long(), index)
        assert index.dtype == torch.int64
        return torch.stack([index, torch.full_like(index, epoch)], 1)

    return Batches(examples(num, in_memory), transform, batch_size, device=CPU, **options)  # type: ignore[arg-type]


def seen(given: Batches) -> list[list[int]]:
    """The indices of all batches of an epoch, whose classes are checked."""
    found = []
    for x, y in given:
        assert torch.equal(y, 3 * x[:, 0] + 1)
        found.append(x[:, 0].tolist())
    return found


@pytest.mark.parametrize("rank", [0, 1])
@pytest.mark.parametrize("position", [0, 3])
def test_batches_that_are_made_together_are_what_they_are_alone(
    position: int, rank: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Images of 2x2 that are flipped, moved and binarized; each place is counted when its batch is given."""
    stored = torch.randint(0, 256, (23, 1, 2, 2), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    all_of = Examples(stored, torch.arange(23))
    transform = ToModel(256, flip=True, binarize=True, seed=1, shift=0.3)
    calls: list[int] = []

    def counted(images: Tensor, index: Tensor, epoch: int) -> Tensor:
        calls.append(len(index))
        return transform(images, index, epoch)

    found = {}
    for values in (0, 2 * 16, 10**6):  # one batch, two, and all of an epoch
        monkeypatch.setitem(TOGETHER, "cpu", values)
        given = Batches(all_of, counted, 4, shuffle=True, device=CPU, rank=rank, world_size=2)
        given.load_state_dict({"epoch": 2, "position": position})
        calls.clear()
        found[values] = [(x.clone(), y.clone(), given.position) for x, y in given]
        assert sum(calls) == 2 * (5 - position)
        assert max(calls) == {0: 2, 32: 4}.get(values, 2 * (5 - position))
        assert [place for _, _, place in found[values]] == list(range(position + 1, 6))
    for others in (found[32], found[10**6]):
        for (x, y, _), (x_alone, y_alone, _) in zip(others, found[0], strict=True):
            assert torch.equal(x, x_alone)
            assert torch.equal(y, y_alone)


either = pytest.mark.parametrize("in_memory", [True, False])


@either
@pytest.mark.parametrize(("num", "batch_size"), [(20, 5), (23, 5), (5, 5), (7, 1)])
def test_an_epoch_of_training_is_whole_batches_of_the_order_of_seed_and_epoch(
    num: int, batch_size: int, in_memory: bool
) -> None:
    training = batches(num, batch_size, shuffle=True, seed=9, in_memory=in_memory)
    assert len(training) == num // batch_size
    for epoch in range(3):
        order = torch.randperm(num, generator=torch.Generator().manual_seed(mix(9, epoch))).tolist()
        whole = [order[i : i + batch_size] for i in range(0, num - batch_size + 1, batch_size)]
        epochs = set()
        found = []
        for i, (x, _) in enumerate(training):
            found.append(x[:, 0].tolist())
            epochs |= set(x[:, 1].tolist())
            assert training.state_dict() == {"epoch": epoch, "position": i + 1}
        assert found == whole
        assert epochs == {epoch}


def test_without_a_seed_it_is_0() -> None:
    assert seen(batches(9, 3, shuffle=True)) == seen(batches(9, 3, shuffle=True, seed=0))
    assert batches(9, 3, shuffle=True).state_dict() == {"epoch": 0, "position": 0}


@either
@pytest.mark.parametrize(("num", "batch_size"), [(20, 5), (23, 5), (3, 5), (0, 5)])
def test_every_evaluation_is_all_examples_in_their_order(num: int, batch_size: int, in_memory: bool) -> None:
    given = batches(num, batch_size, shuffle=False, in_memory=in_memory)
    expected = [list(range(i, min(num, i + batch_size))) for i in range(0, num, batch_size)]
    assert len(given) == len(expected)
    assert seen(given) == expected
    half = iter(given)
    if expected:
        next(half)  # a pass that is interrupted: the next one begins at the first batch
    assert seen(given) == expected
    assert given.state_dict()["epoch"] == 0


@either
@pytest.mark.parametrize("world_size", [2, 3])
def test_the_shares_of_the_processes_make_every_batch_up(world_size: int, in_memory: bool) -> None:
    alone = seen(batches(31, 6, shuffle=True, seed=2, in_memory=in_memory))
    shares = [
        seen(batches(31, 6, shuffle=True, seed=2, in_memory=in_memory, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    for i, batch in enumerate(alone):
        together = [index for rank in range(world_size) for index in shares[rank][i]]
        assert sorted(together) == sorted(batch)
        assert {len(share[i]) for share in shares} == {6 // world_size}


@either
def test_the_last_batch_of_an_evaluation_may_leave_a_process_nothing(in_memory: bool) -> None:
    shares = [seen(batches(9, 4, shuffle=False, in_memory=in_memory, rank=rank, world_size=2)) for rank in range(2)]
    assert shares == [[[0, 2], [4, 6], [8]], [[1, 3], [5, 7]]]
    # A batch that is no multiple of the processes is none of an evaluation's concern.
    odd = [seen(batches(7, 3, shuffle=False, rank=rank, world_size=2, in_memory=in_memory)) for rank in range(2)]
    assert sorted(chain(*chain(*odd))) == list(range(7))


@either
@pytest.mark.parametrize("stop", [0, 1, 2, 3])
def test_an_epoch_goes_on_after_the_batches_that_were_given(stop: int, in_memory: bool) -> None:
    whole = batches(17, 5, shuffle=True, seed=4, in_memory=in_memory)
    first, second = seen(whole), seen(whole)
    cut = batches(17, 5, shuffle=True, seed=4, in_memory=in_memory)
    running = iter(cut)
    for _ in range(stop):
        next(running)
    resumed = batches(17, 5, shuffle=True, seed=4, in_memory=in_memory)
    resumed.load_state_dict(cut.state_dict())
    assert resumed.state_dict() == {"epoch": 0, "position": stop}
    if stop < 3:
        assert seen(resumed) == first[stop:]
    assert seen(resumed) == second


def test_an_epoch_that_was_of_more_batches_than_there_are_now_is_over() -> None:
    training = batches(17, 5, shuffle=True, seed=4)
    training.load_state_dict({"epoch": 6, "position": 9})  # of smaller batches
    order = torch.randperm(17, generator=torch.Generator().manual_seed(mix(4, 7))).tolist()
    assert seen(training) == [order[:5], order[5:10], order[10:15]]
    assert training.state_dict() == {"epoch": 7, "position": 3}


def test_workers_read_the_same_and_draw_nothing_of_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    expected = seen(batches(12, 4, shuffle=True, seed=5))
    read = batches(12, 4, shuffle=True, seed=5, in_memory=False, num_workers=2)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    assert seen(read) == expected
    assert torch.equal(torch.get_rng_state(), before)
    # They are as many as were asked for.
    import genlab.data.batches as module

    asked = []

    class Loader(module.DataLoader):  # type: ignore[type-arg, misc]
        def __init__(self, *arguments: object, num_workers: int = 0, **options: object) -> None:
            asked.append(num_workers)
            super().__init__(*arguments, num_workers=0, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "DataLoader", Loader)
    seen(read)
    seen(batches(12, 4, shuffle=True, in_memory=False))
    assert asked == [2, 0]


def test_examples_of_a_split_know_their_number_and_what_is_read() -> None:
    from genlab.data.batches import _Files

    files = _Files(examples(3, in_memory=False))
    assert len(files) == 3
    image, index = files[2]
    assert (index, int(image[0, 0, 0])) == (2, 2)


def test_what_makes_no_batch_is_refused() -> None:
    with pytest.raises(InputError, match="4 training examples do not fill one batch of 5"):
        batches(4, 5, shuffle=True)
    assert len(batches(5, 5, shuffle=True)) == 1
    with pytest.raises(InputError, match="a batch of 6 does not divide over 4 devices"):
        batches(24, 6, shuffle=True, world_size=4)
    assert len(batches(4, 5, shuffle=False, world_size=4)) == 1
