"""Measuring in bounded memory, and never without a sign of life."""

import time

import pytest
import torch
from torch import Tensor, nn

from genlab.machine import progress
from genlab.metrics import activations, distances
from genlab.metrics.activations import FEW, samples_at_once, watched
from genlab.metrics.drawing import draw
from genlab.metrics.memorization import nearest
from genlab.metrics.prdc import density_and_coverage
from genlab.models import in_parts as parts
from genlab.models.gan.mlp import MLP
from genlab.models.in_parts import in_parts


def test_samples_are_drawn_in_parts_for_which_there_is_room(monkeypatch: pytest.MonkeyPatch) -> None:
    net = nn.Sequential(nn.Linear(3, 100), nn.ReLU(), nn.Linear(100, 5))
    with watched(net) as found:
        net(torch.randn(4, 3))
        net(torch.randn(2, 3))  # smaller: not counted beside the largest
    of_one = 4 * (100 + 100 + 5)
    assert found.total == 4 * of_one
    assert not any(module._forward_hooks for module in net.modules())
    drawn = []

    def draw_few(num: int) -> None:
        drawn.append(num)
        net(torch.randn(num, 3))

    for room, most, expected in ((10 * of_one, 250, 10), (10 * of_one, 7, 7), (of_one // 2, 250, 1)):
        monkeypatch.setattr(activations, "ROOM", room)  # a sample that takes more than the room is drawn alone
        assert samples_at_once(net, "a", most, draw_few) == expected
    assert drawn == [FEW]  # once for these settings
    samples_at_once(net, "b", 250, draw_few)
    assert drawn == [FEW, FEW]


def test_samples_are_the_same_in_batches_and_parts_of_any_size(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    model = MLP((2,))
    sizes: list[int] = []
    expected = draw(model, 90, seed=3, batch_size=40, advance=sizes.append)
    assert sizes == [40, 40, 10]
    monkeypatch.setattr(activations, "ROOM", 0)
    sizes.clear()
    torch.testing.assert_close(draw(model, 90, seed=3, batch_size=40, advance=sizes.append), expected)
    assert sizes == [1] * 90
    sizes.clear()
    torch.testing.assert_close(draw(model, 30, seed=3, batch_size=40, advance=sizes.append), expected[:30])
    assert sizes == [30]  # few samples, such as those of a picture, are drawn at once


def test_blocks_of_distances_hold_as_many_numbers_as_there_is_room_for_and_change_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    torch.manual_seed(0)
    fake, real = torch.randn(70, 6), torch.randn(90, 6)
    found = density_and_coverage(fake, real), nearest(fake, real, 5)
    sizes = []
    squared = distances.squared_distances

    def seen(a: Tensor, b: Tensor) -> Tensor:
        sizes.append(8 * len(a) * len(b))
        return squared(a, b)

    monkeypatch.setattr(distances, "ROOM", 8 * 90 * 4)
    for module in ("prdc", "memorization"):
        monkeypatch.setattr(f"genlab.metrics.{module}.squared_distances", seen)
    again = density_and_coverage(fake, real), nearest(fake, real, 5)
    assert max(sizes) <= 8 * 90 * 4
    assert len(sizes) > 60
    assert again[0] == found[0]
    torch.testing.assert_close(again[1], found[1])


def test_parts_are_joined_row_by_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "PART", 4)
    x, y = torch.arange(10.0), torch.arange(10)
    seen = []

    def compute(x: Tensor, y: Tensor | None) -> list[Tensor]:
        seen.append(len(x))
        return [x + 1, x[:, None] * (0 if y is None else y[:, None])]

    ones, products = in_parts(compute, x, y)
    assert seen == [4, 4, 2]
    assert torch.equal(ones, x + 1)
    assert torch.equal(products, (x * y)[:, None])
    assert torch.equal(in_parts(compute, x, None)[1], torch.zeros(10, 1))


def test_a_long_operation_shows_a_sign_of_life_and_a_quick_one_none(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(progress, "EVERY", 0.3)
    with progress.signs_of_life("quick"):
        time.sleep(0.1)
    assert capsys.readouterr().err == ""
    with progress.signs_of_life("distances"):
        time.sleep(1.1)
        lines = capsys.readouterr().err.splitlines()
        assert 2 <= len(lines) <= 3
        assert all(line.startswith("distances: ") for line in lines)
        # The innermost one speaks, within a batch as well, and knows how far it is.
        with progress.with_progress("samples", 500) as advance:
            advance(250)
            time.sleep(0.8)
            assert "samples: 250 of 500, " in (said := capsys.readouterr().err)
            assert said.endswith(" s left\n")
            assert "distances" not in said
    time.sleep(0.5)
    assert capsys.readouterr().err == ""
