"""The channels of a pixel, separate or with linear coefficients: their draws, means and first parameters."""

import pytest
import torch

from genlab.distributions.colour import LinearChannels, OneChannel, PixelChannels, SeparateChannels
from genlab.distributions.pixel import Categorical, DiscretizedLogisticMixture
from support.small_images import all_images

LEVELS = 5


def kinds(levels: int = LEVELS, components: int = 2) -> list[tuple[PixelChannels, int]]:
    return [
        (SeparateChannels(DiscretizedLogisticMixture(levels, components), 3), 3),
        (SeparateChannels(Categorical(levels), 2), 2),
        (OneChannel(Categorical(levels)), 1),
        (LinearChannels(DiscretizedLogisticMixture(levels, components), 3), 3),
    ]


@pytest.mark.parametrize(("pixel", "channels"), kinds())
def test_probabilities_of_all_pixels_sum_to_one_and_are_those_of_draws(pixel: PixelChannels, channels: int) -> None:
    torch.manual_seed(0)
    params = torch.randn(1, pixel.num_params, 1)
    x = all_images((channels, 1), LEVELS)
    probability = pixel.log_prob(params.expand(len(x), -1, -1), x).flatten(1).sum(1).exp()
    torch.testing.assert_close(probability.sum(), torch.tensor(1.0))
    drawn = pixel.sample(params.expand(1, -1, 40000), torch.rand(1, channels, 40000))[0]  # (C, N)
    index = (drawn * (LEVELS - 1)).round().long()
    at = sum(index[c] * LEVELS ** (channels - 1 - c) for c in range(channels))
    share = torch.bincount(torch.as_tensor(at), minlength=len(x)) / 40000
    assert (share - probability).abs().max() < 0.01


def test_the_mean_of_linear_channels_is_that_of_draws() -> None:
    torch.manual_seed(0)
    pixel = LinearChannels(DiscretizedLogisticMixture(256, 3), 3)
    params = 0.3 * torch.randn(1, pixel.num_params, 1)
    params[:, 12:21] = -3.0  # narrow, so that little is cut off at black and white
    drawn = pixel.sample(params.expand(1, -1, 100000), torch.rand(1, 3, 100000))
    torch.testing.assert_close(pixel.mean(params)[0, :, 0], drawn.mean((0, 2)), atol=0.005, rtol=0)


@pytest.mark.parametrize(("pixel", "channels"), kinds(256, 10))
def test_fitted_parameters_are_better_than_uniform_ones(pixel: PixelChannels, channels: int) -> None:
    torch.manual_seed(0)
    grey = torch.rand(5000, 1).square()
    x = ((0.8 * grey + 0.2 * torch.rand(5000, channels)) * 255).round() / 255
    params = pixel.fit(x)
    assert params.shape == (pixel.num_params,)
    levels = float(pixel.each.levels)
    nats = -pixel.log_prob(params.view(1, -1, 1).expand(1, -1, 5000), x.T.unsqueeze(0)).mean()
    assert nats < torch.tensor(levels).log() - 0.1
    black_and_white = torch.tensor([0.0, 1.0]).expand(channels, 2).unsqueeze(0)
    assert pixel.log_prob(params.view(1, -1, 1).expand(1, -1, 2), black_and_white).isfinite().all()


def test_groups_of_like_brightness_need_fewer_bits_than_separate_channels() -> None:
    torch.manual_seed(0)
    x = ((0.9 * torch.rand(5000, 1) + 0.1 * torch.rand(5000, 3)) * 255).round() / 255
    each = DiscretizedLogisticMixture(256, 10)

    def nats(pixel: PixelChannels) -> float:
        params = pixel.fit(x).view(1, -1, 1).expand(1, -1, len(x))
        return -float(pixel.log_prob(params, x.T.unsqueeze(0)).mean())

    assert nats(LinearChannels(each, 3)) < nats(SeparateChannels(each, 3)) - 0.5


@pytest.mark.parametrize("x", [torch.zeros(50, 3), torch.ones(4, 3), torch.rand(1, 3)])
def test_pixels_that_are_all_alike_or_few_give_finite_parameters(x: torch.Tensor) -> None:
    assert LinearChannels(DiscretizedLogisticMixture(256, 10), 3).fit(x).isfinite().all()
