"""PixelCNN++ and PixelSNAIL, which tell a pixel's channels jointly: normalised, causal, and sampled as they score."""

import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from genlab.distributions.colour import LinearChannels
from genlab.distributions.noise import Generators, generators, uniform
from genlab.distributions.pixel import Bernoulli, Categorical, DiscretizedLogisticMixture, PixelDistribution
from genlab.errors import InputError
from genlab.layers.raster import to_image
from genlab.layers.shifted_conv import DownConv, DownRightConv, ShiftedCache
from genlab.models.autoregressive.pixel_cnn_pp import PixelCNNpp
from genlab.models.autoregressive.pixel_snail import PixelSNAIL
from genlab.models.base import LikelihoodModel

# By the shape, the distribution and the number of classes.
MODELS: dict[str, Callable[..., LikelihoodModel]] = {
    "pixel cnn pp": lambda shape, distribution, num_classes=None: PixelCNNpp(shape, distribution, 8, 1, 3, num_classes),
    "pixel cnn pp of two levels": lambda shape, distribution, num_classes=None: PixelCNNpp(
        shape, distribution, 8, 2, 2, num_classes
    ),
    "pixel cnn pp of one level": lambda shape, distribution, num_classes=None: PixelCNNpp(
        shape, distribution, 8, 2, 1, num_classes
    ),
    "pixel snail": lambda shape, distribution, num_classes=None: PixelSNAIL(
        shape, distribution, 8, 2, 2, 4, 6, num_classes
    ),
}


def make(
    name: str, shape: tuple[int, ...], distribution: PixelDistribution, num_classes: int | None = None
) -> LikelihoodModel:
    """A small model far from its initialisation, class biases included."""
    torch.manual_seed(0)
    return perturbed(MODELS[name](shape, distribution, num_classes)).eval()


def perturbed(model: Any, by: float = 0.15) -> Any:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += by * torch.randn_like(parameter)
    return model


def random_images(num: int, shape: tuple[int, ...], levels: int, seed: int = 0) -> Tensor:
    return torch.randint(levels, (num, *shape), generator=torch.Generator().manual_seed(seed)) / (levels - 1)


def all_images(shape: tuple[int, ...], levels: int) -> Tensor:
    return torch.tensor(list(itertools.product(range(levels), repeat=math.prod(shape)))).view(-1, *shape) / (levels - 1)


def naive_sample(model: Any, num: int, generator: Generators, temperature: float = 1.0) -> Tensor:
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
        ((2, 2, 1), DiscretizedLogisticMixture(4, 3)),
        ((1, 1, 1), Bernoulli(2)),
    ],
)
@pytest.mark.parametrize("name", MODELS)
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


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 4, 3), (3, 2, 2), (1, 5, 1), (2, 1, 5), (1, 5, 7)])
@pytest.mark.parametrize("name", MODELS)
def test_params_depend_on_all_earlier_values_and_no_other(name: str, shape: tuple[int, ...]) -> None:
    distribution = Categorical(3) if shape[0] == 1 else DiscretizedLogisticMixture(3, 2)
    model = make(name, shape, distribution).double()
    x = random_images(3, shape, 3).double().requires_grad_()
    params = model(x).abs().sum((0, 1)).flatten()
    slopes = torch.stack([torch.autograd.grad(p, x, retain_graph=True)[0].abs().sum(0) for p in params])
    ranks = to_image(torch.arange(model.num_dims), shape)
    assert torch.equal(slopes.view(*shape, *shape) != 0, ranks < ranks[:, :, :, None, None, None])


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("name", MODELS)
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
        ((1, 7, 9), Categorical(5), 3),
        ((3, 5, 4), DiscretizedLogisticMixture(17, 3), 2),
        ((2, 4, 1), DiscretizedLogisticMixture(5, 3), None),
        ((1, 1, 6), Bernoulli(2), 2),
    ],
)
@pytest.mark.parametrize("name", MODELS)
def test_sampling_with_work_done_once_equals_naive_sampling(
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


@pytest.mark.parametrize("name", ["pixel cnn pp", "pixel snail"])
def test_sampling_frequencies_are_the_probabilities(name: str) -> None:
    num = 10000
    model = make(name, (2, 1, 2), DiscretizedLogisticMixture(2, 3), 2)
    x = all_images(model.shape, 2)
    for label in range(2):
        samples = model.sample(num, torch.full((num,), label), generator=torch.Generator().manual_seed(label))
        counts = (samples.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long().bincount(minlength=16)
        with torch.no_grad():
            expected = num * model.log_prob(x, torch.full((16,), label)).exp()
        assert expected.min() > 5
        chi_square = ((counts - expected) ** 2 / expected).sum().item()
        assert chi_square < 15 + 4 * math.sqrt(2 * 15)


@pytest.mark.parametrize("shape", [(1, 5, 5), (2, 4, 4)])
@pytest.mark.parametrize("name", ["pixel cnn pp", "pixel snail"])
def test_overfits_a_tiny_batch(name: str, shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = MODELS[name](shape, Categorical(5) if shape[0] == 1 else DiscretizedLogisticMixture(5, 3))
    x = random_images(4, shape, 5)
    optimizer = torch.optim.Adam(model.parameters(), 4e-3)
    if shape[0] == 1:
        assert model.loss(x)["loss"].item() == pytest.approx(math.log2(5), abs=0.2)  # near uniform at first
    for _ in range(110):
        optimizer.zero_grad()
        model.loss(x)["loss"].backward()
        optimizer.step()
    # At best log(4) nats an example: which of the four it is. A mixture is slow to give single levels their own mass.
    with torch.no_grad():
        assert (
            math.log(4) - 1e-3 < model.loss(x)["nll"] < model.num_dims * math.log(5) * (0.4 if shape[0] == 1 else 0.7)
        )


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 4, 4)])
@pytest.mark.parametrize("name", MODELS)
def test_bf16_autocast_stays_close(name: str, shape: tuple[int, ...]) -> None:
    model = make(name, shape, DiscretizedLogisticMixture(17, 2), 2)
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
    "build",
    [
        lambda: PixelCNNpp((1, 16, 16), Bernoulli(2), 32, 5),
        lambda: PixelSNAIL((1, 16, 16), Bernoulli(2), 32, 6, 4),
    ],
)
def test_features_keep_their_scale_whatever_the_depth(build: Callable[[], Any]) -> None:
    torch.manual_seed(0)
    model = build()
    sizes: list[float] = []
    model.last.register_forward_pre_hook(lambda module, inputs: sizes.append(float(inputs[0].std())))
    with torch.no_grad():
        loss = model.loss(random_images(16, model.shape, 2))["loss"].item()
    assert loss == pytest.approx(1, abs=0.1)  # one bit a value, as the first params are near 0
    assert 0.3 < sizes[0] < 3, sizes


@pytest.mark.parametrize("family", [PixelCNNpp, PixelSNAIL])
def test_dropout_is_of_training_alone(family: Any) -> None:
    torch.manual_seed(0)
    model = family((1, 5, 5), Bernoulli(2), 8, 1, dropout=0.5)
    x = random_images(2, model.shape, 2)
    assert not torch.equal(model.log_prob(x), model.log_prob(x))
    model.eval()
    assert torch.equal(model.log_prob(x), model.log_prob(x))


# -- the channels of a pixel -------------------------------------------------------------------------------------------


def test_channels_given_those_before_are_the_papers_joint_mixture() -> None:
    """Equation 3: one mixture of products of logistics, whose means move with the channels before."""
    torch.manual_seed(0)
    K, levels = 4, 5
    linear = LinearChannels(DiscretizedLogisticMixture(levels, K), 3)
    assert linear.num_params == 10 * K
    params = torch.randn(2, 10 * K).repeat_interleave(levels**3, 0)
    x = all_images((3,), levels).repeat(2, 1)
    log_prob = linear.each.log_prob(linear.given(params, x), x).sum(1)  # by the chain rule

    logits, m_r, m_g, m_b, s_r, s_g, s_b, alpha, beta, gamma = params.chunk(10, dim=1)
    r, g, _ = (2 * x - 1).split(1, dim=1)
    means = [m_r, m_g + alpha.tanh() * r, m_b + beta.tanh() * r + gamma.tanh() * g]
    one = DiscretizedLogisticMixture(levels, 1)
    joint = torch.log_softmax(logits, 1)
    for c, (mean, scale) in enumerate(zip(means, (s_r, s_g, s_b), strict=True)):
        joint = joint + one.log_prob(torch.stack([mean * 0, mean, scale], 1), x[:, c : c + 1].expand_as(mean))
    torch.testing.assert_close(log_prob, joint.logsumexp(1), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(log_prob.view(2, -1).exp().sum(1), torch.ones(2))


def test_a_channel_is_given_as_soon_as_those_before_are_known() -> None:
    linear = LinearChannels(DiscretizedLogisticMixture(9, 2), 4)
    params, x = torch.randn(3, linear.num_params, 2, 2), random_images(3, (4, 2, 2), 9)
    whole = linear.given(params, x)
    assert whole.shape == (3, 6, 4, 2, 2)
    for c in range(4):
        torch.testing.assert_close(linear.given(params, x[:, :c]), whole[:, :, : c + 1])


# -- convolutions ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (2, 3), (3, 5), (2, 1)])
@pytest.mark.parametrize("kind", [DownConv, DownRightConv])
def test_shifted_convolutions_see_no_pixel_after(kind: Any, rows: int, columns: int, stride: int) -> None:
    torch.manual_seed(0)
    conv = kind(2, 3, (rows, columns), stride).double()
    x = torch.randn(2, 2, 5, 6, dtype=torch.double)
    out = conv(x)
    assert out.shape == (2, 3, -(-5 // stride), -(-6 // stride))
    left = columns // 2 if kind is DownConv else columns - 1
    for i, j in itertools.product(range(out.shape[2]), range(out.shape[3])):
        expected = conv.bias.clone().expand(2, 3)
        for a, b in itertools.product(range(rows), range(columns)):
            row, column = stride * i - (rows - 1) + a, stride * j - left + b
            if row >= 0 and 0 <= column < 6:
                expected = expected + x[:, :, row, column] @ conv.weight[:, :, a, b].T
        torch.testing.assert_close(out[:, :, i, j], expected)

    # The cache gives the same, row by row or pixel by pixel, where an output is due.
    cache = ShiftedCache([(conv, 6)], 2)
    assert cache.width(conv) == 6
    with torch.no_grad():
        for i, j in itertools.product(range(5), range(6)):
            cache.move(i, j)
            if kind is DownRightConv:
                cache.write(conv, x[:, :, i : i + 1, j : j + 1])
                if i % stride == 0 and j % stride == 0:
                    torch.testing.assert_close(cache.read(conv)[..., 0, 0], out[:, :, i // stride, j // stride])
            elif j == 0:
                cache.write(conv, x[:, :, i : i + 1])
                if i % stride == 0:
                    torch.testing.assert_close(cache.read(conv)[:, :, 0], out[:, :, i // stride])


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: PixelCNNpp((4,), Bernoulli(2)), r"\(C, H, W\)"),
        (lambda: PixelCNNpp((1, 2, 2), Bernoulli(2), channels=0), "channels=0"),
        (lambda: PixelCNNpp((1, 2, 2), Bernoulli(2), num_blocks=0), "num_blocks=0"),
        (lambda: PixelCNNpp((1, 2, 2), Bernoulli(2), num_levels=0), "num_levels=0"),
        (lambda: PixelCNNpp((1, 2, 2), Bernoulli(2), dropout=1.0), "dropout=1.0"),
        (lambda: PixelCNNpp((3, 2, 2), Categorical(4)), "distribution=logistic_mixture"),
        (lambda: PixelSNAIL((4,), Bernoulli(2)), r"\(C, H, W\)"),
        (lambda: PixelSNAIL((1, 2, 2), Bernoulli(2), num_blocks=0), "num_blocks=0"),
        (lambda: PixelSNAIL((1, 2, 2), Bernoulli(2), key_size=0), "key_size=0"),
        (lambda: PixelSNAIL((1, 2, 2), Bernoulli(2), dropout=-0.1), "dropout=-0.1"),
        (lambda: PixelSNAIL((2, 2, 2), Categorical(4)), "distribution=logistic_mixture"),
        (lambda: make("pixel snail", (1, 2, 2), Bernoulli(2), 3).log_prob(torch.zeros(1, 1, 2, 2)), "give the classes"),
        (lambda: DownConv(1, 1, (2, 2)), "odd"),
        (
            lambda: make("pixel cnn pp", (1, 2, 2), Bernoulli(2), 3).log_prob(torch.zeros(1, 1, 2, 2)),
            "give the classes y",
        ),
    ],
)
def test_bad_options_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()
