"""PixelRNN of Row LSTMs and of Diagonal BiLSTMs: normalised, causal, and sampled as it scores."""

import itertools
import json
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from conftest import Genlab
from genlab.distributions.noise import Generators, generators, uniform
from genlab.distributions.pixel import Bernoulli, Categorical, DiscretizedLogisticMixture, PixelDistribution
from genlab.errors import InputError
from genlab.layers.raster import to_image
from genlab.models.autoregressive.pixel_rnn import DiagonalBiLSTM, DiagonalLSTM, PixelRNN, RowLSTM, lstm, skew, unskew

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


def perturbed(model: Any, by: float = 0.3) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn_like(parameter)
    return model


def random_images(num: int, shape: tuple[int, ...], levels: int, seed: int = 0) -> Tensor:
    return torch.randint(levels, (num, *shape), generator=torch.Generator().manual_seed(seed)) / (levels - 1)


def all_images(shape: tuple[int, ...], levels: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape)))).view(-1, *shape) / (levels - 1)


def naive_sample(model: PixelRNN, num: int, generator: Generators, temperature: float = 1.0) -> Tensor:
    """A whole forward pass for every value."""
    y = model.classes(num, None, generator)
    u = uniform((num, *model.shape), generator, model.device)
    x = torch.full_like(u, 0.5)  # what is not drawn yet must not matter
    C, H, W = model.shape
    with torch.no_grad():
        for i, j, c in itertools.product(range(H), range(W), range(C)):
            x[:, c, i, j] = model.distribution.sample(model(x, y)[:, :, c, i, j], u[:, c, i, j], temperature)
    return x


@pytest.mark.parametrize("num_classes", [None, 2])
@pytest.mark.parametrize(
    ("shape", "distribution"),
    [
        ((1, 3, 3), Bernoulli(2)),
        ((1, 2, 2), Categorical(4)),
        ((3, 1, 2), DiscretizedLogisticMixture(3, 2)),
        ((3, 2, 1), Categorical(2)),
        ((1, 1, 1), Bernoulli(2)),
    ],
)
@pytest.mark.parametrize("name", LAYERS)
def test_probabilities_of_all_images_sum_to_one(
    name: str, shape: tuple[int, ...], distribution: PixelDistribution, num_classes: int | None
) -> None:
    model = make(name, shape, distribution, num_classes).double()
    x = all_images(shape, distribution.levels)
    log_probs = []
    for label in range(num_classes or 1):
        y = None if num_classes is None else torch.full((len(x),), label)
        with torch.no_grad():
            log_probs.append(model.log_prob(x, y).double())
        assert log_probs[-1].exp().sum().item() == pytest.approx(1, abs=1e-5)
        if len(x) > 2:
            assert log_probs[-1].exp().max() > 1.2 / len(x)  # not by being uniform
    if num_classes:
        assert (log_probs[0] - log_probs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 4, 3), (3, 2, 2), (1, 5, 1), (2, 1, 5)])
@pytest.mark.parametrize("name", LAYERS)
def test_params_depend_on_all_earlier_values_and_no_other(name: str, shape: tuple[int, ...]) -> None:
    """In images so small, the first convolution's 7x7 leave the Row LSTM no blind spot either."""
    model = make(name, shape, Categorical(3)).double()
    x = random_images(8, shape, 3).double()
    slopes = torch.autograd.functional.jacobian(lambda x: model(x).abs().sum((0, 1)), x)
    seen = slopes.abs().sum(3) != 0  # (C, H, W) of params by (C, H, W) of the image
    ranks = to_image(torch.arange(model.num_dims), shape)
    assert torch.equal(seen, ranks < ranks[:, :, :, None, None, None])


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


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("name", LAYERS)
def test_an_example_does_not_depend_on_its_batch(name: str, num_classes: int | None) -> None:
    model = make(name, (3, 4, 5), DiscretizedLogisticMixture(17, 3), num_classes).double()
    x = random_images(6, model.shape, 17)
    y = None if num_classes is None else torch.arange(6) % num_classes
    together = model.log_prob(x, y)
    alone = torch.cat([model.log_prob(x[i : i + 1], None if y is None else y[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    ("shape", "distribution", "num_classes"),
    [
        ((1, 6, 5), Bernoulli(2), None),
        ((3, 3, 4), Categorical(5), 3),
        ((2, 4, 1), DiscretizedLogisticMixture(17, 3), None),
        ((1, 1, 6), Bernoulli(2), 2),
    ],
)
@pytest.mark.parametrize("name", LAYERS)
def test_sampling_with_states_kept_equals_naive_sampling(
    name: str, shape: tuple[int, ...], distribution: PixelDistribution, num_classes: int | None
) -> None:
    model = make(name, shape, distribution, num_classes).double()
    for temperature in (1.0, 0.6):
        quick = model.sample(6, generator=torch.Generator().manual_seed(1), temperature=temperature)
        naive = naive_sample(model, 6, torch.Generator().manual_seed(1), temperature)
        assert torch.equal(quick, naive)
        assert len(quick.unique(dim=0)) > 2
    together = model.sample(5, generator=generators(0, range(5)))
    alone = torch.cat([model.sample(1, generator=generators(0, [i])) for i in range(5)])
    assert torch.equal(together, alone)


@pytest.mark.parametrize("name", LAYERS)
def test_overfits_a_tiny_batch(name: str) -> None:
    torch.manual_seed(0)
    model = PixelRNN((1, 5, 5), Categorical(5), LAYERS[name], 16, 2)
    x = random_images(4, model.shape, 5)
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    assert model.loss(x)["loss"].item() == pytest.approx(math.log2(5), abs=0.2)  # near uniform at first
    for _ in range(80):
        optimizer.zero_grad()
        model.loss(x)["loss"].backward()
        optimizer.step()
    # At best log(4) nats an example: which of the four it is. Uniform values cost 40.
    with torch.no_grad():
        assert math.log(4) - 1e-3 < model.loss(x)["nll"] < 12


@pytest.mark.parametrize("name", LAYERS)
def test_bf16_autocast_stays_close(name: str) -> None:
    model = make(name, (2, 5, 5), DiscretizedLogisticMixture(17, 2), 2)
    x, y = random_images(4, model.shape, 17), torch.tensor([0, 1, 1, 0])
    expected = model.log_prob(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        log_prob = model.log_prob(x, y)
        samples = model.sample(2)
        model.loss(x, y)["loss"].backward()
    assert log_prob.dtype == samples.dtype == torch.float32
    torch.testing.assert_close(log_prob, expected, rtol=0.05, atol=0)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PixelRNN((4,), Bernoulli(2), RowLSTM), r"\(C, H, W\)"),
        (lambda: PixelRNN((1, 2, 2), Bernoulli(2), RowLSTM, channels=0), "channels=0"),
        (lambda: PixelRNN((1, 2, 2), Bernoulli(2), DiagonalBiLSTM, num_layers=0), "num_layers=0"),
        (lambda: PixelRNN((1, 2, 2), Bernoulli(2), partial(RowLSTM, kernel_size=4)), "odd"),
        (lambda: make("row", (1, 2, 2), Bernoulli(2), 3).log_prob(torch.zeros(1, 1, 2, 2)), "give the classes y"),
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
