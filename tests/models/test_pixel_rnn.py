"""PixelRNN of Row LSTMs and of Diagonal BiLSTMs: the paper's recurrences, and what they see."""

import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from genlab.distributions.pixel import Bernoulli, PixelDistribution
from genlab.errors import InputError
from genlab.models.autoregressive.pixel_rnn import DiagonalBiLSTM, DiagonalLSTM, PixelRNN, RowLSTM, lstm, skew, unskew
from support.command import Genlab
from support.small_images import perturbed, random_images

LAYERS: dict[str, Callable[..., Any]] = {
    "row": RowLSTM,
    "row of 5": partial(RowLSTM, kernel_size=5),
    "diagonal": DiagonalBiLSTM,
}


def make(
    name: str, shape: tuple[int, ...], distribution: PixelDistribution, num_classes: int | None = None, layers: int = 2
) -> PixelRNN:
    """A small model far from its initialisation, masked weights and class biases included."""
    torch.manual_seed(0)
    return perturbed(PixelRNN(shape, distribution, LAYERS[name], 12, layers, num_classes))


@pytest.mark.parametrize("layers", [1, 2])
def test_a_row_lstm_sees_a_triangle_and_a_diagonal_bilstm_all_but_one_value(layers: int) -> None:
    height, width = 9, 21
    rows, columns = torch.arange(height)[:, None], torch.arange(width)
    x = random_images(4, (1, height, width), 2).double().requires_grad_()
    for name in ("row", "diagonal"):
        model = make(name, (1, height, width), Bernoulli(2), layers=layers).double()
        params = model(x)
        for i, j in ((8, 10), (5, 4), (3, 20), (0, 12)):
            (slopes,) = torch.autograd.grad(params[..., i, j].sum(), x, retain_graph=True)
            expected = (rows < i) | ((rows == i) & (columns < j))
            if name == "row":
                # One column to either side for every row up, 3 more by the first convolution, which also turns the
                # last row's step into one of its own; and one to the left by the input-to-state of every layer.
                up = i - rows
                right = torch.where(up == 0, -1, up + 2)
                expected &= (columns - j <= right) & (j - columns <= up + 3 + layers)
            elif j + 3 < width - 1:
                # The last value of the row above: mask A hides it from its own pixel, to whose right there is none.
                expected &= ~((rows == i - 1) & (columns == width - 1))
            assert torch.equal(slopes[:, 0].abs().sum(0) != 0, expected)


def test_layers_are_the_papers_recurrences() -> None:
    """Pixel by pixel, equation 3 with the states about each pixel."""
    torch.manual_seed(0)
    H, W, h, groups = 4, 3, 4, 2
    x, bias = torch.randn(2, 6, H, W, dtype=torch.double), torch.randn(2, 4 * h, dtype=torch.double)
    none = torch.zeros(2, h, dtype=torch.double)

    row = perturbed(RowLSTM(6, h, groups)).double()
    gates = row.input_to_state(x) + bias[:, :, None, None]
    states: dict[tuple[int, int], tuple[Tensor, Tensor]] = {}
    for i, j in itertools.product(range(H), range(W)):
        about = torch.stack([states.get((i - 1, k), (none, none))[0] for k in (j - 1, j, j + 1)], -1).flatten(1)
        z = gates[:, :, i, j] + row.state_to_state(about)
        states[i, j] = lstm(z, states.get((i - 1, j), (none, none))[1], groups)
        torch.testing.assert_close(row(x, bias)[:, :, i, j], states[i, j][0])

    diagonal = perturbed(DiagonalLSTM(6, h, groups)).double()
    gates = diagonal.input_to_state(x) + bias[:, :, None, None]
    states = {}
    for i, j in itertools.product(range(H), range(W)):
        (above, _), (left, c) = (states.get(k, (none, none)) for k in ((i - 1, j), (i, j - 1)))
        states[i, j] = lstm(gates[:, :, i, j] + diagonal.from_before(above, left), c, groups)
        torch.testing.assert_close(diagonal(x, bias)[:, :, i, j], states[i, j][0])

    both = perturbed(DiagonalBiLSTM(6, h, groups)).double()
    out, mirrored = both(x, bias), both.right(x.flip(3), bias).flip(3)
    torch.testing.assert_close(out[:, :, 0], both.left(x, bias)[:, :, 0])
    torch.testing.assert_close(out[:, :, 1:], both.left(x, bias)[:, :, 1:] + mirrored[:, :, :-1])


def test_the_four_gates_are_o_f_i_g_of_every_group() -> None:
    gates, c = torch.randn(5, 2, 4, 3), torch.randn(5, 2, 3)
    h, new = lstm(gates.flatten(1), c.flatten(1), 2)
    for group in range(2):
        o, f, i, g = gates[:, group].unbind(1)
        cell = f.sigmoid() * c[:, group] + i.sigmoid() * g.tanh()
        torch.testing.assert_close(new[:, 3 * group : 3 * group + 3], cell)
        torch.testing.assert_close(h[:, 3 * group : 3 * group + 3], o.sigmoid() * cell.tanh())


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (5, 3), (4, 1), (1, 4)])
def test_skewing_makes_columns_of_diagonals(size: tuple[int, int]) -> None:
    x = torch.randn(2, 3, *size)
    skewed = skew(x)
    assert skewed.shape == (2, 3, size[0], sum(size) - 1)
    for i, j in itertools.product(*map(range, size)):
        assert torch.equal(skewed[:, :, i, i + j], x[:, :, i, j])
    assert torch.equal(unskew(skewed), x)


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PixelRNN((4,), Bernoulli(2), RowLSTM), r"\(C, H, W\)"),
        (lambda: PixelRNN((1, 2, 2), Bernoulli(2), RowLSTM, channels=0), "channels=0"),
        (lambda: PixelRNN((1, 2, 2), Bernoulli(2), DiagonalBiLSTM, num_layers=0), "num_layers=0"),
        (lambda: PixelRNN((1, 2, 2), Bernoulli(2), partial(RowLSTM, kernel_size=4)), "odd"),
    ],
)
def test_bad_options_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("row_lstm", ("trainer.precision=bf16-mixed", "model.layer.kernel_size=5")),
        ("diagonal_bilstm", ("training.channels_last=true", "training.ema_decay=0.9")),
    ],
)
def test_the_command_trains_and_samples_them(genlab: Genlab, model: str, options: tuple[str, ...]) -> None:
    result = genlab(
        "train", f"model=autoregressive/{model}", *options, "model.num_classes=${dataset.num_classes}",
        "model.channels=4", "model.num_layers=1", "debug=fast_dev_run", "logger=csv", "metrics.num_samples=8",
        "metrics.num_test=10", "metrics.num_shown=2",
    )  # fmt: skip
    assert result.code == 0, result.err
    summary = json.loads((result.run / "summary.json").read_text())["metrics"]["test/nll"]
    assert math.isfinite(summary["value"])
    assert summary["protocol"]["likelihood"] == "exact"
