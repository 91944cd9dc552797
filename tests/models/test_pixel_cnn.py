"""What PixelCNN has of its own: masks, caches, codes and reach; what holds for every model of its kind is a law."""

import itertools
import math
from collections.abc import Sequence

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genlab.distributions.pixel import Bernoulli, Categorical, DiscretizedLogisticMixture, PixelDistribution
from genlab.errors import InputError
from genlab.layers.masked_conv import MaskedConv2d, RasterCache
from genlab.models.autoregressive.pixel_cnn import PixelCNN
from support.autoregressive_models import naive_sample
from support.small_images import all_images, perturbed, random_images


def make(
    shape: tuple[int, ...],
    distribution: PixelDistribution,
    num_classes: int | None = None,
    channels: int = 8,
    num_layers: int = 2,
    seed: int = 0,
) -> PixelCNN:
    """A small model far from its initialisation, masked weights and class biases included."""
    torch.manual_seed(seed)
    return perturbed(PixelCNN(shape, distribution, channels, num_layers, num_classes))


@pytest.mark.parametrize("shape", [(1, 5, 4), (1, 3, 7), (2, 3, 5), (3, 3, 4)])
def test_params_depend_on_earlier_values_only(shape: tuple[int, ...]) -> None:
    C, H, W = shape
    model = make(shape, Categorical(3), channels=12).double()
    x = random_images(8, shape, 3).double()
    # (C, H, W) of the params by (C, H, W) of the image; in one of the images at least, as a ReLU may be off in another.
    slopes = torch.autograd.functional.jacobian(lambda x: model(x).abs().sum((0, 1)), x).abs().sum(3)
    order = torch.arange(H * W * C).view(H, W, C).permute(2, 0, 1)
    for c, i, j in itertools.product(range(C), range(H), range(W)):
        seen = slopes[c, i, j] != 0
        assert not (seen & (order >= order[c, i, j])).any()
        for earlier in range(c):
            assert seen[earlier, i, j]
        if j > 0:
            assert seen[:, i, j - 1].all()
        if i > 0:  # the row above, as far to the right as the first layer reaches
            assert seen[:, i - 1, max(0, j - 3) : j + 4].all()


def test_log_prob_is_that_of_the_naive_chain_rule() -> None:
    shape, distribution = (2, 2, 3), Categorical(4)
    model = make(shape, distribution).double()
    x = random_images(5, shape, 4)
    total = torch.zeros(5)
    with torch.no_grad():
        for i, j, c in itertools.product(range(2), range(3), range(2)):
            known = torch.zeros_like(x)
            for a, b, d in itertools.product(range(2), range(3), range(2)):
                if (a, b, d) < (i, j, c):
                    known[:, d, a, b] = x[:, d, a, b]
            total += distribution.log_prob(model(known)[:, :, c, i, j], x[:, c, i, j])
        torch.testing.assert_close(model.log_prob(x), total)


@pytest.mark.parametrize("kernel_size", [3, 5])
def test_a_larger_kernel_sees_further_and_samples_alike(kernel_size: int) -> None:
    torch.manual_seed(0)
    model = PixelCNN((1, 12, 13), Bernoulli(2), channels=8, num_layers=2, kernel_size=kernel_size).double()
    x = random_images(4, model.shape, 2).double().requires_grad_()
    model(x)[..., 11, 6].sum().backward()
    assert x.grad is not None
    rows, columns = (x.grad[:, 0].abs().sum(0).sum(1 - side).nonzero().flatten().tolist() for side in (0, 1))
    reach = 3 + 2 * (kernel_size // 2)
    assert rows == list(range(11 - reach, 12))
    assert columns == list(range(max(0, 6 - reach), min(13, 6 + reach + 1)))
    cached = model.sample(4, generator=torch.Generator().manual_seed(1))
    assert torch.equal(cached, naive_sample(model, 4, generator=torch.Generator().manual_seed(1)))


@pytest.mark.parametrize("shape", [(1, 2, 2), (2, 1, 2)])
def test_codes_are_read_without_order(shape: tuple[int, ...]) -> None:
    """Their probabilities sum to 1, samples from caches are the naive ones, and renaming codes renames the model."""
    torch.manual_seed(0)
    model = PixelCNN(shape, Categorical(4), channels=4, num_layers=1, kind="codes").double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.3 * torch.randn_like(parameter)
    x = all_images(shape, 4).double()
    assert model.log_prob(x).exp().sum().item() == pytest.approx(1, abs=1e-5)
    cached = model.sample(20, generator=torch.Generator().manual_seed(1))
    assert torch.equal(cached, naive_sample(model, 20, generator=torch.Generator().manual_seed(1)))
    rename = torch.tensor([2, 0, 3, 1])
    before = model.log_prob(x)
    with torch.no_grad():  # code k is now called rename[k]
        model.values.weight[rename] = model.values.weight.clone()
        for parameter in (model.last.weight, model.last.bias):
            parameter.view(shape[0], 4, -1)[:, rename] = parameter.view(shape[0], 4, -1).clone()
    torch.testing.assert_close(model.log_prob(rename[(3 * x).round().long()] / 3.0), before)


@pytest.mark.parametrize("distribution", [Bernoulli(2), Categorical(5)])
def test_low_temperature_takes_the_mode_of_every_value(distribution: PixelDistribution) -> None:
    model = make((2, 3, 4), distribution)
    x = model.sample(16, generator=torch.Generator().manual_seed(0), sampling=model.Sampling(temperature=1e-6))
    assert (x == x[0]).all()
    with torch.no_grad():
        params = model(x)
    log_probs = torch.stack(
        [distribution.log_prob(params, torch.full_like(x, v)) for v in x.new_tensor(grid(distribution))]
    )
    assert torch.equal(log_probs.argmax(0), distribution.index(x))


def grid(distribution: PixelDistribution) -> Sequence[float]:
    return [level / (distribution.levels - 1) for level in range(distribution.levels)]


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 5, 7), (2, 3, 4), (5, 2, 2), (1, 28, 28), (3, 8, 8)])
def test_any_image_shape(shape: tuple[int, ...]) -> None:
    distribution = DiscretizedLogisticMixture(256, 2)
    model = PixelCNN(shape, distribution, channels=4, num_layers=1, num_classes=2)
    x, y = random_images(3, shape, 256), torch.tensor([0, 1, 1])
    assert model(x, y).shape == (3, distribution.num_params, *shape)
    loss = model.loss(x, y)
    assert loss["nll"].item() == pytest.approx(loss["loss"].item() * math.prod(shape) * math.log(2), rel=1e-5)
    loss["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    if math.prod(shape) < 300:
        samples = model.sample(2)
        assert samples.shape == (2, *shape)
        torch.testing.assert_close(distribution.index(samples) / 255, samples)


def test_bf16_autocast_and_channels_last_stay_close() -> None:
    model = make((1, 8, 8), Bernoulli(2), seed=1)
    x = random_images(4, model.shape, 2)
    expected = model.log_prob(x)
    with torch.autocast("cpu", torch.bfloat16):
        log_prob = model.log_prob(x)
        samples = model.sample(2)
    assert log_prob.dtype == torch.float32
    torch.testing.assert_close(log_prob, expected, rtol=0.05, atol=0)
    assert samples.dtype == torch.float32
    assert ((samples == 0) | (samples == 1)).all()
    model = model.to(memory_format=torch.channels_last)
    torch.testing.assert_close(model.log_prob(x.contiguous(memory_format=torch.channels_last)), expected)


@pytest.mark.parametrize("mask", ["A", "B"])
@pytest.mark.parametrize(("kernel_size", "groups"), [(1, 1), (1, 3), (3, 1), (3, 2), (7, 3)])
def test_masked_convolution_is_a_convolution_with_a_masked_kernel(mask: str, kernel_size: int, groups: int) -> None:
    torch.manual_seed(0)
    conv = MaskedConv2d(2 * groups, 3 * groups, kernel_size, mask, groups).double()
    nn.init.normal_(conv.weight)
    nn.init.normal_(conv.bias)
    radius = kernel_size // 2
    kernel = torch.zeros(3 * groups, 2 * groups, kernel_size, kernel_size, dtype=torch.double)
    for o, i, a, b in itertools.product(*map(range, kernel.shape)):
        now, then = (radius, radius, o // 3), (a, b, i // 2)
        if then < now or (mask == "B" and then == now):
            kernel[o, i, a, b] = conv.weight[o, i, a, b]
    x = torch.randn(2, 2 * groups, 5, 6, dtype=torch.double)
    torch.testing.assert_close(conv(x), F.conv2d(x, kernel, conv.bias, padding=radius))

    conv(x).square().sum().backward()
    assert torch.equal(conv.weight.grad != 0, conv.mask.bool())
    assert set(conv.state_dict()) == {"weight", "bias"}

    # The cache gives the same, one position and group after the other.
    cache = RasterCache([conv], 2, 6)
    out = torch.empty(2, 3 * groups, 5, 6, dtype=torch.double)
    with torch.no_grad():
        for row in range(5):
            for column, group in itertools.product(range(6), range(groups)):
                cache.move(column, group)
                inputs = x[:, 2 * group : 2 * group + 2, row, column]
                if mask == "A":
                    out[:, 3 * group : 3 * group + 3, row, column] = cache.read(conv)
                    cache.write(conv, inputs)
                else:
                    out[:, 3 * group : 3 * group + 3, row, column] = cache(conv, inputs)
            cache.next_row()
        torch.testing.assert_close(out, conv(x))


def test_first_features_are_of_unit_order_whatever_the_depth() -> None:
    # Untrained params near 0: a Bernoulli image costs about one bit per value.
    for num_layers in (1, 20):
        torch.manual_seed(0)
        model = PixelCNN((1, 8, 8), Bernoulli(2), num_layers=num_layers)
        with torch.no_grad():
            assert model.loss(random_images(16, model.shape, 2))["loss"].item() == pytest.approx(1, abs=0.2)


def test_bad_requests_are_refused() -> None:
    with pytest.raises(InputError, match="give the classes y"):
        PixelCNN((1, 2, 2), Bernoulli(2), num_classes=3).log_prob(torch.zeros(1, 1, 2, 2))
    with pytest.raises(InputError, match=r"\(C, H, W\)"):
        PixelCNN((4,), Bernoulli(2))
    with pytest.raises(InputError, match="channels=0"):
        PixelCNN((1, 2, 2), Bernoulli(2), channels=0)
    with pytest.raises(InputError, match="odd"):
        MaskedConv2d(1, 1, 4, "A")
    with pytest.raises(InputError, match="multiples"):
        MaskedConv2d(3, 4, 3, "B", 3)
