"""Randomness that does not depend on how it is batched."""

import torch

from genlab.distributions.noise import generators, indexed_uniform, integers, mix, normal, uniform

CPU = torch.device("cpu")


def test_a_row_depends_on_its_seed_and_index_alone() -> None:
    for shape in ((3,), (2, 5), (1, 28, 28)):
        whole = normal((6, *shape), generators(3, range(6)), CPU)
        parts = [normal((n, *shape), generators(3, range(i, i + n)), CPU) for i, n in ((0, 1), (1, 3), (4, 2))]
        assert torch.equal(whole, torch.cat(parts))
        assert len(whole.flatten(1).unique(dim=0)) == 6
        assert not torch.equal(whole, normal((6, *shape), generators(4, range(6)), CPU))


def test_indexed_uniform_is_uniform_and_without_state() -> None:
    u = indexed_uniform(torch.arange(2000), 50, seed=1, epoch=2)
    assert u.min() >= 0
    assert u.max() < 1
    counts = torch.histc(u, 20, 0, 1)
    chi_square = ((counts - 5000).square() / 5000).sum()
    assert chi_square < 43.8  # 19 degrees of freedom, p = 0.001
    order = torch.randperm(2000)
    assert torch.equal(indexed_uniform(order, 50, seed=1, epoch=2), u[order])
    # Neighbouring positions, examples, epochs and seeds are uncorrelated (standard error 1/sqrt(1e5) = 0.003).
    for other in (
        u.roll(1, 0),
        u.roll(1, 1),
        indexed_uniform(torch.arange(2000), 50, seed=1, epoch=3),
        indexed_uniform(torch.arange(2000), 50, seed=2, epoch=2),
    ):
        assert abs(torch.corrcoef(torch.stack([u.flatten(), other.flatten()]))[0, 1]) < 0.015


def test_integers_cover_their_range_evenly() -> None:
    counts = integers(5, 5000, torch.Generator().manual_seed(0), CPU).bincount(minlength=5)
    assert len(counts) == 5
    assert ((counts - 1000).square() / 1000).sum() < 18.5  # 4 degrees of freedom, p = 0.001


def test_a_shared_generator_continues() -> None:
    generator = torch.Generator().manual_seed(0)
    assert not torch.equal(uniform((2, 3), generator, CPU), uniform((2, 3), generator, CPU))


def test_mix_tells_words_apart() -> None:
    seeds = {mix(a, b) for a in range(-30, 30) for b in range(60)} | {mix(a) for a in range(60)}
    assert len(seeds) == 60 * 60 + 60
    assert all(0 <= seed < 2**63 for seed in seeds)
