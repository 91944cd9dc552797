"""FVSBN, NADE, MADE and Gated PixelCNN: the formulas of their papers, what they see and what they hold."""

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from genlab.distributions.pixel import Bernoulli, Categorical, DiscretizedLogisticMixture, PixelDistribution
from genlab.errors import InputError
from genlab.layers.stack_conv import HorizontalConv, StackCache, VerticalConv
from genlab.models.autoregressive.fvsbn import FVSBN
from genlab.models.autoregressive.gated_pixel_cnn import GatedPixelCNN
from genlab.models.autoregressive.made import MADE
from genlab.models.autoregressive.nade import NADE, Recursion
from support.autoregressive_models import naive_sample
from support.command import Genlab
from support.small_images import all_images, perturbed, random_images


@pytest.mark.parametrize("distribution", [Bernoulli(2), Categorical(5), DiscretizedLogisticMixture(5, 3)])
def test_values_begin_with_their_own_distribution(distribution: PixelDistribution) -> None:
    x = random_images(50, (2, 3, 4), distribution.levels) * (torch.arange(4) > 0)  # a column that never varies
    fitted = distribution.fit(x).expand(50, -1, -1, -1, -1)
    alone = distribution.log_prob(fitted.reshape(50, -1, *x.shape[1:]), x).flatten(1).sum(1)
    model = FVSBN((2, 3, 4), distribution)
    model.initialize(x)
    torch.testing.assert_close(model.log_prob(x), alone)
    # The rest have small weights to begin with, and biases that make them near to it.
    for model in (NADE((2, 3, 4), distribution, 9, order="random"), MADE((2, 3, 4), distribution, (20,))):
        for parameter in model.parameters():
            parameter.data *= 0.01
        model.initialize(x)
        torch.testing.assert_close(model.log_prob(x), alone, rtol=0.02, atol=0.1)


# -- NADE --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunk", [1, 5, 12, 100])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
@pytest.mark.parametrize("distribution", [Bernoulli(2), Categorical(4)])
def test_nade_in_chunks_is_the_papers_formulas(distribution: PixelDistribution, activation: str, chunk: int) -> None:
    """Values and gradients, position by position; algorithm 1 of the paper."""
    model = perturbed(NADE((1, 3, 4), distribution, 7, None, activation, "random", seed=3, chunk=chunk)).double()
    assert model.order.tolist() != list(range(12))
    x = random_images(5, model.shape, distribution.levels).double()
    sigma = {"sigmoid": torch.sigmoid, "relu": F.relu}[activation]
    W, V, b, c, o = model.W.T, model.V, model.b, model.c[0], model.order
    values = x.flatten(1)[:, o]
    log_prob = torch.zeros(5)
    for d in range(12):
        h = sigma(c + values[:, :d] @ W[:, :d].T)
        log_prob = log_prob + distribution.log_prob(b[:, d] + h @ V[:, d].T, values[:, d])
    torch.testing.assert_close(model.log_prob(x), log_prob)
    gradients, expected = (
        torch.autograd.grad(p.sum(), list(model.parameters())) for p in (model.log_prob(x), log_prob)
    )
    torch.testing.assert_close(gradients, expected, rtol=1e-4, atol=1e-5)  # the likelihood itself is in float32


@pytest.mark.parametrize("T", [1, 3])
@pytest.mark.parametrize("activation", ["sigmoid", "relu"])
def test_nades_recursion_has_the_gradient_of_finite_differences(activation: str, T: int) -> None:
    generator = torch.Generator().manual_seed(0)
    shapes = (4, 6), (7, 4), (7, 6), (7, 2, 6)  # c, x, W, V
    inputs = [torch.randn(shape, dtype=torch.float64, generator=generator).requires_grad_() for shape in shapes]
    assert torch.autograd.gradcheck(lambda *tensors: Recursion.apply(*tensors, activation, T), inputs)


def test_nade_never_holds_the_activations_of_all_positions() -> None:
    class Largest(TorchDispatchMode):
        numel = 0

        def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            out = function(*args, **(kwargs or {}))
            for tensor in out if isinstance(out, tuple | list) else (out,):
                if isinstance(tensor, Tensor):
                    self.numel = max(self.numel, tensor.numel())
            return out

    model = NADE((1, 16, 16), Bernoulli(2), hidden=32, chunk=8)
    x = random_images(64, model.shape, 2)
    with Largest() as largest:
        model.loss(x)["loss"].backward()
    assert largest.numel == max(64 * 8 * 32, 64 * 256)  # of 64 * 256 * 32


def test_checkpoints_keep_orders_and_masks() -> None:
    x = random_images(4, (1, 4, 4), 2)
    for build in (lambda seed: NADE((1, 4, 4), Bernoulli(2), order="random", seed=seed),
                  lambda seed: MADE((1, 4, 4), Bernoulli(2), num_masks=2, seed=seed)):  # fmt: skip
        model, other = perturbed(build(0)), build(1)
        other.load_state_dict(model.state_dict())
        torch.testing.assert_close(other.log_prob(x), model.log_prob(x))


# -- MADE --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["random", "natural"])
@pytest.mark.parametrize("direct", [False, True])
def test_made_is_the_mean_of_the_joint_probabilities_of_its_masks(order: str, direct: bool) -> None:
    torch.manual_seed(0)
    model = MADE((1, 3, 3), Bernoulli(2), [20, 30], num_masks=4, order=order, direct=direct)
    model = perturbed(perturbed(model)).double()
    x = all_images(model.shape, 2)
    with torch.no_grad():
        joint = [model.log_prob_under(k, x).double().exp() for k in range(4)]
        log_prob = model.log_prob(x)
    for one in joint:
        assert one.sum().item() == pytest.approx(1, abs=1e-5)
    for a, b in itertools.combinations(joint, 2):
        assert (a - b).abs().sum() > 0.05
    torch.testing.assert_close(log_prob.double(), torch.stack(joint).mean(0).log(), rtol=1e-5, atol=1e-5)
    # In training a loss is of one mask, which bounds the mixture's on average; otherwise it is the mixture's.
    losses = []
    for model.mask in range(4):
        losses.append(model.loss(x)["nll"].item())
        assert losses[-1] == pytest.approx(-joint[model.mask].log().mean().item(), rel=1e-5)
    model.eval()
    assert model.loss(x)["nll"].item() == pytest.approx(-log_prob.mean().item(), rel=1e-5)
    assert model.loss(x)["nll"].item() < sum(losses) / 4


def test_the_turn_of_a_mask_is_a_function_of_the_images_seen() -> None:
    model, resumed = (MADE((1, 3, 3), Bernoulli(2), num_masks=8, seed=5) for _ in range(2))
    turns = []
    for step in range(400):  # a batch size that 8 divides
        model.prepare(64 * step)
        turns.append(model.mask)
    counts = torch.tensor(turns).bincount(minlength=8)
    assert counts.min() > 25
    for step in (399, 7, 123):
        resumed.prepare(64 * step)
        assert resumed.mask == turns[step]
    alone = MADE((1, 3, 3), Bernoulli(2))
    alone.prepare(12345)
    assert alone.mask == 0


@pytest.mark.parametrize("num_dims", [1, 2, 9])
def test_made_draws_orders_and_degrees_as_the_paper_does(num_dims: int) -> None:
    model = MADE((1, 1, num_dims), Bernoulli(2), [50, 40, 30], num_masks=3)
    assert torch.equal(model.ranks.sort(1).values, torch.arange(num_dims, dtype=torch.int32).expand(3, -1))
    for degrees in model.degrees:
        lowest = 1
        for of_layer in degrees.split([50, 40, 30]):
            assert of_layer.min() >= lowest
            assert of_layer.max() <= max(1, num_dims - 1)
            lowest = of_layer.min()
    again = MADE((1, 1, num_dims), Bernoulli(2), [50, 40, 30], num_masks=2)
    assert torch.equal(again.degrees, model.degrees[:2])  # each mask is a function of (seed, index)


# -- Gated PixelCNN ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("kernel_size", "num_layers"), [(1, 1), (3, 1), (3, 3), (5, 2)])
def test_gated_pixel_cnn_has_no_blind_spot(kernel_size: int, num_layers: int) -> None:
    """It sees every earlier value within its receptive field, a rectangle, and nothing outside."""
    torch.manual_seed(0)
    model = perturbed(GatedPixelCNN((1, 11, 19), Bernoulli(2), 8, num_layers, None, kernel_size)).double()
    x = random_images(4, model.shape, 2).double().requires_grad_()
    reach = 3 + num_layers * (kernel_size // 2)
    for i, j in ((10, 9), (8, 4), (3, 18), (0, 12)):
        (slopes,) = torch.autograd.grad(model(x)[..., i, j].sum(), x)
        rows, columns = torch.arange(11)[:, None], torch.arange(19)
        expected = ((rows < i) | ((rows == i) & (columns < j))) & (rows >= i - reach) & ((columns - j).abs() <= reach)
        assert torch.equal(slopes[:, 0].abs().sum(0) != 0, expected)


def test_gated_pixel_cnn_of_other_kernels_and_given_classes_samples_alike() -> None:
    for kernel_size in (1, 5):
        torch.manual_seed(0)
        model = perturbed(GatedPixelCNN((2, 4, 5), Categorical(3), 5, 2, 3, kernel_size)).double()
        y = torch.tensor([2, 0, 1, 2])
        quick = model.sample(4, y, generator=torch.Generator().manual_seed(1))
        assert torch.equal(quick, naive_sample(model, 4, y, torch.Generator().manual_seed(1)))


def test_a_class_moves_both_parts_of_every_gate() -> None:
    """Equation 4: a bias in the tanh and one in the sigmoid, of both stacks of every layer."""
    torch.manual_seed(0)
    model = perturbed(GatedPixelCNN((1, 6, 6), Bernoulli(2), 4, 2, 2)).double()
    model.log_prob(random_images(4, model.shape, 2), torch.tensor([0, 1, 1, 0])).sum().backward()
    # (classes, layers, stacks, gate's part, p); the last layer's vertical stack ends in its link.
    moved = (model.class_bias.weight.grad != 0).unflatten(1, (3, 2, 2, 4))
    assert moved[:, :2].all()
    assert moved[:, 2, 1].all()


def test_features_of_both_stacks_keep_their_variance_whatever_the_depth() -> None:
    torch.manual_seed(0)
    model = GatedPixelCNN((1, 12, 12), Bernoulli(2), 32, 20)
    sizes: dict[str, list[float]] = {"vertical": [], "horizontal": []}
    for layer in model.layers:
        for stack, kept in sizes.items():
            getattr(layer, stack).register_forward_hook(lambda m, i, out, kept=kept: kept.append(float(out.std())))
    with torch.no_grad():
        loss = model.loss(random_images(16, model.shape, 2))["loss"].item()
    assert loss == pytest.approx(1, abs=0.1)  # one bit a value, as the first params are near 0
    assert all(0.3 < size < 2 for kept in sizes.values() for size in kept), sizes


@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize(("kernel_size", "groups"), [(1, 1), (1, 3), (3, 2), (7, 3)])
def test_convolutions_of_stacks_are_convolutions_with_masked_kernels(mask: Any, kernel_size: int, groups: int) -> None:
    torch.manual_seed(0)
    radius = kernel_size // 2
    across = perturbed(HorizontalConv(2 * groups, 3 * groups, kernel_size, mask, groups)).double()
    kernel = torch.zeros(3 * groups, 2 * groups, 1, kernel_size, dtype=torch.double)
    for o, i, b in itertools.product(range(3 * groups), range(2 * groups), range(radius + 1)):
        if b < radius or i // 2 < o // 3 or (mask == "B" and i // 2 == o // 3):
            kernel[o, i, 0, b] = across.weight[o, i, 0, b]
    x = torch.randn(2, 2 * groups, 4, 5, dtype=torch.double)
    torch.testing.assert_close(across(x), F.conv2d(x, kernel, across.bias, padding=(0, radius)))

    down = perturbed(VerticalConv(2 * groups, 4, radius + 1, kernel_size)).double()
    kernel = torch.cat([down.weight, torch.zeros(4, 2 * groups, radius, kernel_size)], dim=2)
    torch.testing.assert_close(down(x), F.conv2d(x, kernel.double(), down.bias, padding=radius))

    # The cache gives the same, row by row, and one position and group after the other.
    cache = StackCache([across, down], 2, 5)
    rows, out = [], torch.empty(2, 3 * groups, 4, 5, dtype=torch.double)
    with torch.no_grad():
        for row in range(4):
            rows.append(cache(down, x[:, :, row : row + 1]))
            for column, group in itertools.product(range(5), range(groups)):
                cache.move(column, group)
                now = slice(3 * group, 3 * group + 3)
                out[:, now, row, column] = cache(across, x[:, 2 * group : 2 * group + 2, row, column])
        torch.testing.assert_close(torch.cat(rows, 2), down(x))
        torch.testing.assert_close(out, across(x))


# -- all ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: FVSBN((4,), Bernoulli(2)), r"\(C, H, W\)"),
        (lambda: NADE((4,), Bernoulli(2)), r"\(C, H, W\)"),
        (lambda: MADE((4,), Bernoulli(2)), r"\(C, H, W\)"),
        (lambda: GatedPixelCNN((4,), Bernoulli(2)), r"\(C, H, W\)"),
        (lambda: NADE((1, 2, 2), Bernoulli(2), hidden=0), "hidden=0"),
        (lambda: NADE((1, 2, 2), Bernoulli(2), chunk=0), "chunk=0"),
        (lambda: NADE((1, 2, 2), Bernoulli(2), activation="tan"), "sigmoid, relu"),
        (lambda: NADE((1, 2, 2), Bernoulli(2), order="raster"), "natural or random"),
        (lambda: MADE((1, 2, 2), Bernoulli(2), hidden=[]), "at least one layer"),
        (lambda: MADE((1, 2, 2), Bernoulli(2), hidden=[5, 0]), r"\[5, 0\]"),
        (lambda: MADE((1, 2, 2), Bernoulli(2), num_masks=0), "num_masks=0"),
        (lambda: MADE((1, 2, 2), Bernoulli(2), order="raster"), "natural or random"),
        (lambda: GatedPixelCNN((1, 2, 2), Bernoulli(2), channels=0), "channels=0"),
        (lambda: GatedPixelCNN((1, 2, 2), Bernoulli(2), num_layers=0), "num_layers=0"),
        (lambda: GatedPixelCNN((1, 2, 2), Bernoulli(2), kernel_size=4), "odd"),
        (lambda: HorizontalConv(3, 4, 3, "B", 3), "multiples"),
    ],
)
def test_bad_options_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()


@pytest.mark.parametrize(
    ("model", "options"),
    [
        ("fvsbn", ("trainer.precision=bf16-mixed",)),
        ("nade", ("model.hidden=16", "model.order=random")),
        ("made", ("model.hidden=[16,16]", "model.num_masks=3", "model.direct=true", "training.ema_decay=0.9")),
        ("gated_pixel_cnn", ("model.channels=4", "model.num_layers=2", "training.channels_last=true")),
    ],
)
def test_the_command_trains_and_samples_them(genlab: Genlab, model: str, options: tuple[str, ...]) -> None:
    result = genlab(
        "train", f"model=autoregressive/{model}", *options, "model.num_classes=${dataset.num_classes}",
        "debug=fast_dev_run", "logger=csv", "metrics.num_samples=8", "metrics.num_test=10", "metrics.num_shown=2",
    )  # fmt: skip
    assert result.code == 0, result.err
    summary = json.loads((result.run / "summary.json").read_text())["metrics"]["test/nll"]
    assert math.isfinite(summary["value"])
    assert summary["protocol"]["likelihood"] == "exact"
