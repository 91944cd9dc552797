"""PixelCNN++ and PixelSNAIL, which tell a pixel's channels jointly."""

import itertools
from collections.abc import Callable
from typing import Any

import pytest
import torch

from genlab.distributions.colour import LinearChannels
from genlab.distributions.pixel import Bernoulli, Categorical, DiscretizedLogisticMixture
from genlab.errors import InputError
from genlab.layers.shifted_conv import DownConv, DownRightConv, ShiftedCache
from genlab.models.autoregressive.pixel_cnn_pp import PixelCNNpp
from genlab.models.autoregressive.pixel_snail import PixelSNAIL
from support.small_images import all_images, random_images


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
        (lambda: DownConv(1, 1, (2, 2)), "odd"),
    ],
)
def test_bad_options_are_refused(build: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build()
