"""What initial parameters say of the values, temperatures, limits of scales, and what a distribution has to define."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.distributions.pixel import (
    Bernoulli,
    Categorical,
    DequantizedGaussian,
    DiscretizedGaussian,
    DiscretizedLogisticMixture,
    PixelDistribution,
    natural,
)
from genlab.errors import InputError


def grey(levels: int, *shape: int, seed: int = 0) -> Tensor:
    """Grey levels, the middle ones more often."""
    generator = torch.Generator().manual_seed(seed)
    value = (0.4 + 0.15 * torch.randn(shape, generator=generator)).clamp(0, 1)
    return (value * (levels - 1)).round() / (levels - 1)


def probabilities(distribution: PixelDistribution, params: Tensor) -> Tensor:
    """Of all levels, ``(levels, *S)``, under one set of parameters ``(num_params, *S)``."""
    x = torch.arange(distribution.levels) / (distribution.levels - 1)
    x = x.view(-1, *[1] * (params.ndim - 1)).expand(-1, *params.shape[1:])
    return distribution.log_prob(params.expand(len(x), *params.shape), x).exp()


# -- initial parameters ------------------------------------------------------------------------------------------------


def test_binary_pixels_begin_at_their_share_of_ones() -> None:
    x = torch.tensor([[0.0, 1, 0, 1], [0, 1, 1, 1], [0, 1, 0, 0], [0, 1, 0, 0]])
    params = Bernoulli().fit(x)
    torch.testing.assert_close(probabilities(Bernoulli(), params)[1], torch.tensor([0.001, 0.999, 0.25, 0.5]))


@pytest.mark.parametrize("levels", [2, 5, 17])
def test_a_categorical_begins_at_the_logarithms_of_the_shares(levels: int) -> None:
    """With a tenth of a count more for each level, so that none is impossible."""
    x = grey(levels, 40, 2, 3)
    params = Categorical(levels).fit(x)
    index = (x * (levels - 1)).round().long().numpy()
    for i, j in np.ndindex(2, 3):
        counts = np.bincount(index[:, i, j], minlength=levels) + 0.1
        assert params[:, i, j].exp().numpy() == pytest.approx(counts / counts.sum(), rel=1e-5)


@pytest.mark.parametrize("num_components", [2, 3, 10])
@pytest.mark.parametrize("levels", [4, 256])
def test_a_mixture_begins_with_components_side_by_side(num_components: int, levels: int) -> None:
    x = grey(levels, 50, 2)
    logits, means, log_scales = DiscretizedLogisticMixture(levels, num_components).fit(x).chunk(3)
    edges = np.linspace(0, 1, num_components + 1)
    edges[-1] += 1e-6
    for i in range(2):
        counts = np.histogram(x[:, i].double().numpy() + 1e-7, edges)[0] + 0.1
        assert logits[:, i].exp().numpy() == pytest.approx(counts / counts.sum(), rel=1e-5)
        middles = 2 * (np.arange(num_components) + 0.5) / num_components - 1  # on the axis from -1 to 1
        assert means[:, i].numpy() == pytest.approx(middles, abs=1e-6)
    # Neighbours are two scales apart.
    torch.testing.assert_close(2 * log_scales.exp(), torch.full_like(log_scales, 2 / num_components))


def test_a_single_logistic_begins_with_the_values_mean_and_variance() -> None:
    x = grey(256, 500, 2)
    logit, mean, log_scale = DiscretizedLogisticMixture(256, 1).fit(x)
    torch.testing.assert_close(mean, 2 * x.mean(0) - 1)
    # A logistic of scale s has the variance (pi s)² / 3.
    torch.testing.assert_close((math.pi * log_scale.exp()).square() / 3, (2 * x).var(0))
    torch.testing.assert_close(logit, torch.zeros(2))
    same = DiscretizedLogisticMixture(256, 1).fit(torch.full((9, 2), 0.5))
    torch.testing.assert_close(same[2].exp(), torch.full((2,), 0.01))  # wide enough to learn from


def test_a_gaussian_begins_with_the_mean_and_deviation_of_the_bins_middles() -> None:
    x = grey(16, 500, 2)
    mean, log_std = DequantizedGaussian(16).fit(x)
    middles = (15 * x + 0.5) / 16
    torch.testing.assert_close(mean, middles.mean(0))
    torch.testing.assert_close(log_std.exp(), middles.std(0))
    same = DequantizedGaussian(16).fit(torch.zeros(9, 2))
    torch.testing.assert_close(same.exp()[1], torch.full((2,), 0.01))


# -- sampling ----------------------------------------------------------------------------------------------------------


def shares(distribution: PixelDistribution, params: Tensor, **options: float) -> Tensor:
    """Of all levels among samples at evenly spaced uniform numbers, ``(levels,)``."""
    num = 20_000
    u = (torch.arange(num) + 0.5) / num
    drawn = distribution.sample(params.view(1, -1, 1).expand(1, -1, num), u.view(1, num), **options)
    return torch.bincount(distribution.index(drawn).flatten(), minlength=distribution.levels) / num


@pytest.mark.parametrize("temperature", [0.5, 2.0])
def test_temperatures_are_powers_of_probabilities_and_factors_of_scales(temperature: float) -> None:
    torch.manual_seed(0)
    logits = torch.randn(6)
    tempered = torch.softmax(logits / temperature, 0)
    torch.testing.assert_close(shares(Categorical(6), logits, temperature=temperature), tempered, rtol=0, atol=1e-4)
    p = torch.sigmoid(torch.tensor(0.8))
    powers = torch.stack([1 - p, p]) ** (1 / temperature)
    found = shares(Bernoulli(), torch.tensor([0.8]), temperature=temperature)
    torch.testing.assert_close(found, powers / powers.sum(), rtol=0, atol=1e-4)
    mixture = DiscretizedLogisticMixture(20, 2)
    params = torch.tensor([0.5, -0.5, -0.3, 0.6, -2.0, -1.5])
    scale = torch.tensor([1 / temperature] * 2 + [1.0] * 2 + [1.0] * 2)
    colder = params * scale + torch.tensor([0.0] * 4 + [math.log(temperature)] * 2)
    expected = probabilities(mixture, colder[:, None])[:, 0]
    torch.testing.assert_close(shares(mixture, params, temperature=temperature), expected, rtol=0, atol=2e-4)
    torch.testing.assert_close(mixture.cdf(params[None, :, None], temperature)[0, :, 0], expected.cumsum(0)[:-1])
    gaussian = DequantizedGaussian(20)
    normal = torch.distributions.Normal(0.45, 0.1 * temperature)
    cdf = normal.cdf(torch.arange(1, 20) / 20)
    found = shares(gaussian, torch.tensor([0.45, math.log(0.1)]), temperature=temperature)
    torch.testing.assert_close(found.cumsum(0)[:-1], cdf, rtol=0, atol=2e-4)


def test_without_a_temperature_it_is_one() -> None:
    for distribution, params in (
        (Categorical(3), torch.tensor([0.1, 0.5, -0.4])),
        (Bernoulli(), torch.tensor([0.4])),
        (DiscretizedLogisticMixture(9, 2), torch.tensor([0.5, -0.5, -0.3, 0.6, -2.0, -1.5])),
        (DequantizedGaussian(9), torch.tensor([0.4, -2.0])),
    ):
        assert torch.equal(shares(distribution, params), shares(distribution, params, temperature=1.0))
    mixture = DiscretizedLogisticMixture(9, 2)
    params = torch.tensor([0.5, -0.5, -0.3, 0.6, -2.0, -1.5])[None, :, None]
    assert torch.equal(mixture.cdf(params), mixture.cdf(params, 1.0))


def test_a_value_is_taken_where_the_cdf_passes_u_and_not_at_it() -> None:
    """A level from the u on at which those below it end."""
    half = torch.tensor([[[0.0]]])
    for u, value in ((0.0, 0.0), (0.4999, 0.0), (0.5, 1.0), (0.9999, 1.0)):
        assert float(Bernoulli().sample(half, torch.tensor([[u]]))) == value
        assert float(Categorical(2).sample(torch.zeros(1, 2, 1), torch.tensor([[u]]))) == value
        both = torch.zeros(1, 3, 1)  # one component in the middle
        assert float(DiscretizedLogisticMixture(2, 1).sample(both, torch.tensor([[u]]))) == value


def test_ends_of_u_give_the_outermost_levels_of_a_gaussian() -> None:
    params = torch.tensor([0.5, 3.0]).view(1, 2, 1)
    drawn = DequantizedGaussian(256).sample(params.expand(2, -1, -1), torch.tensor([[0.0], [1.0]]))
    assert drawn.flatten().tolist() == [0.0, 1.0]
    narrow = torch.tensor([0.5, -3.0]).view(1, 2, 1)  # 5.2 deviations of 0.05 at one in ten millions
    drawn = DequantizedGaussian(256).sample(narrow.expand(2, -1, -1), torch.tensor([[0.0], [1.0]]))
    expected = 0.5 + math.exp(-3) * torch.special.ndtri(torch.tensor([1e-7, 1 - 1e-7]))
    torch.testing.assert_close(drawn.flatten(), expected, rtol=0, atol=2 / 255)


# -- limits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sign", [-1, 1])
def test_scales_are_held_between_the_seventh_powers_of_e(sign: int) -> None:
    """On both sides, so that no density is infinite and no gradient is lost before."""
    x = torch.rand(50, 1)

    def of(log_scale: float, distribution: PixelDistribution) -> Tensor:
        position = 0.5 if isinstance(distribution, DequantizedGaussian) else 0.0
        torch.manual_seed(0)
        params = (
            [[position, log_scale]] if isinstance(distribution, DequantizedGaussian) else [[0.0, position, log_scale]]
        )
        return distribution.log_prob(torch.tensor(params).view(1, -1, 1).expand(50, -1, -1), x)

    for distribution in (DequantizedGaussian(1000), DiscretizedLogisticMixture(1000, 1)):
        at_the_end = of(sign * 7.0, distribution)
        assert torch.equal(of(sign * 7.5, distribution), at_the_end)
        assert torch.equal(of(sign * 100.0, distribution), at_the_end)
        assert not torch.allclose(of(sign * 6.9, distribution), at_the_end)


@pytest.mark.parametrize("shape", [(), (3,), (2, 3), (1, 2, 2)])
def test_what_follows_the_parameters_may_have_any_shape(shape: tuple[int, ...]) -> None:
    for distribution in (Bernoulli(), Categorical(5), DiscretizedLogisticMixture(5, 2), DequantizedGaussian(5)):
        torch.manual_seed(0)
        params = torch.randn(4, distribution.num_params, *shape)
        flat = params.movedim(1, -1).reshape(-1, distribution.num_params)
        u = torch.rand(4, *shape)
        x = distribution.sample(params, u)
        assert x.shape == (4, *shape)
        assert torch.equal(x.flatten(), distribution.sample(flat, u.flatten()))
        torch.testing.assert_close(distribution.mean(params).flatten(), distribution.mean(flat))
        assert distribution.log_prob(params, x).shape == (4, *shape)
        torch.testing.assert_close(distribution.index(x).float(), x * (distribution.levels - 1))
        assert distribution.fit(x).shape == (distribution.num_params, *shape)


def test_the_gaussians_mean_is_within_the_range_of_values() -> None:
    params = torch.tensor([[-0.5, 0.0], [0.0, 0.0], [1.0, 0.0], [1.5, 0.0]]).unsqueeze(2)
    assert DequantizedGaussian(256).mean(params).flatten().tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ("build", "line"),
    [
        (lambda: Bernoulli(3), "this data has 3 grey levels"),
        (lambda: Bernoulli(1), "this data has 1 grey levels"),
        (lambda: Categorical(1), "levels=1: a pixel takes at least 2 values"),
        (lambda: Categorical(-3), "levels=-3"),
        (lambda: DequantizedGaussian(1), "levels=1"),
        (lambda: DiscretizedLogisticMixture(256, 0), "num_components=0: a mixture has at least 1 component"),
        (lambda: DiscretizedLogisticMixture(256, -1), "num_components=-1"),
    ],
)
def test_what_is_no_distribution_is_refused(build: Any, line: str) -> None:
    with pytest.raises(InputError, match=line):
        build()


def test_the_natural_distribution_has_a_logit_for_each_of_up_to_17_levels() -> None:
    kinds = {levels: type(natural(levels)) for levels in (2, 3, 16, 17, 18, 256)}
    assert kinds == {
        2: Bernoulli, 3: Categorical, 16: Categorical, 17: Categorical,
        18: DiscretizedLogisticMixture, 256: DiscretizedLogisticMixture,
    }  # fmt: skip
    # The paper's number of components, PixelCNN++ (arXiv:1701.05517).
    assert natural(256).num_params == DiscretizedLogisticMixture(256).num_params == 3 * 10
    assert [natural(levels).num_params for levels in (2, 17)] == [1, 17]
    assert [natural(levels).levels for levels in (2, 17, 30)] == [2, 17, 30]


def test_positions_on_the_axis_of_values_are_computed_in_float32_and_logits_need_not_be() -> None:
    precise = {kind: kind.needs_float32 for kind in (Bernoulli, Categorical, DiscretizedLogisticMixture)}
    assert precise == {Bernoulli: False, Categorical: False, DiscretizedLogisticMixture: True}
    assert DequantizedGaussian.needs_float32
    assert PixelDistribution.needs_float32  # whoever adds one is on the safe side


@pytest.mark.parametrize("missing", ["log_prob", "sample", "mean", "fit"])
def test_a_distribution_lacks_nothing(missing: str) -> None:
    methods = {name: lambda *_: None for name in ("log_prob", "sample", "mean", "fit")}
    assert type("Whole", (PixelDistribution,), methods)(2).levels == 2  # type: ignore[abstract]
    part = type("Part", (PixelDistribution,), {name: m for name, m in methods.items() if name != missing})
    with pytest.raises(TypeError, match=missing):
        part(2)


def test_the_integrated_gaussians_mean_is_within_the_range_of_values() -> None:
    params = torch.tensor([[-0.5, 0.0], [0.0, 0.0], [1.0, 0.0], [1.5, 0.0]]).unsqueeze(2)
    for levels in (2, 256):
        assert DiscretizedGaussian(levels).mean(params).flatten().tolist() == [0, 0, 1, 1]


def test_the_dequantized_density_alone_is_a_bound() -> None:
    assert DequantizedGaussian.likelihood == "lower_bound"
    exact = (PixelDistribution, Bernoulli, Categorical, DiscretizedLogisticMixture, DiscretizedGaussian)
    assert {kind.likelihood for kind in exact} == {"exact"}


def test_a_wide_range_of_scales_is_that_of_the_bound_too() -> None:
    x = (torch.arange(9) / 8).view(-1, 1)
    for end in (-7.0, 7.0):
        at_end = DiscretizedGaussian(9).log_prob(torch.tensor([[[0.5], [end]]]).expand(9, -1, -1), x)
        beyond = DiscretizedGaussian(9).log_prob(torch.tensor([[[0.5], [2 * end]]]).expand(9, -1, -1), x)
        within = DiscretizedGaussian(9).log_prob(torch.tensor([[[0.5], [0.98 * end]]]).expand(9, -1, -1), x)
        assert torch.equal(at_end, beyond)
        assert not torch.equal(at_end, within)
