"""Weight normalization and its initialization from data, in the models that have it."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genlab.distributions.noise import generators
from genlab.distributions.pixel import Bernoulli, DiscretizedLogisticMixture
from genlab.layers.fitting import initialize_from_data
from genlab.layers.shifted_conv import DownConv, DownRightConv, ShiftedConv2d
from genlab.layers.weight_norm import INITIAL_IMAGES, normalize_weights
from genlab.models.autoregressive.pixel_cnn_pp import PixelCNNpp
from genlab.models.autoregressive.pixel_snail import PixelSNAIL
from genlab.training.ema import ExponentialMovingAverage

FAMILIES: list[Any] = [PixelCNNpp, PixelSNAIL]


def colours(num: int = 100, side: int = 8) -> Tensor:
    """Smooth images whose channels are alike, (num, 3, side, side)."""
    torch.manual_seed(3)
    coarse = torch.rand(num, 1, 2, 2).square()
    smooth = nn.functional.interpolate(coarse, (side, side), mode="bilinear")
    return ((0.8 * smooth + 0.2 * torch.rand(num, 3, side, side)) * 255).round() / 255


@pytest.mark.parametrize(
    "layer",
    [
        lambda: nn.Conv2d(3, 4, 3),
        lambda: nn.ConvTranspose2d(3, 4, 2, 2),
        lambda: DownConv(3, 4, (2, 3)),
        lambda: DownRightConv(3, 4, (2, 2), stride=2),
    ],
)
def test_layers_keep_their_functions_and_lengths_are_of_output_channels(layer: Any) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(layer())
    x = torch.randn(2, 3, 6, 6)
    before = network(x)
    normalize_weights(network)
    torch.testing.assert_close(network(x), before)
    length, direction = network[0].parametrizations.weight.original0, network[0].parametrizations.weight.original1
    assert length.numel() == 4
    assert float(direction.detach().square().mean().sqrt()) == pytest.approx(0.05)
    with torch.no_grad():
        direction.mul_(3)  # its length is divided out
        torch.testing.assert_close(network(x), before)
        length.view(-1)[2] *= 2
    bias = network[0].bias.view(-1, 1, 1)
    torch.testing.assert_close(network(x)[:, 2], (2 * (before - bias) + bias)[:, 2])


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("num_classes", [None, 3])
def test_outputs_of_all_convolutions_begin_with_their_deviation(family: Any, num_classes: int | None) -> None:
    torch.manual_seed(0)
    mixture = DiscretizedLogisticMixture(256, 3)
    model = family((3, 8, 8), mixture, 8, 2, num_classes=num_classes, dropout=0.5, weight_norm=True)
    x, y = colours(INITIAL_IMAGES), torch.arange(INITIAL_IMAGES) % 3
    model.initialize(x, y)
    assert model.training
    found: dict[str, tuple[float, Tensor, Tensor]] = {}
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d | ShiftedConv2d):
            chosen = 0.1 if name.endswith("second") or name == "last" else 1.0

            def keep(_: Any, __: Any, out: Tensor, name: str = name, chosen: float = chosen) -> None:
                found[name] = (chosen, *torch.std_mean(out, (0, 2, 3), correction=0))

            module.register_forward_hook(keep)
    with torch.no_grad():
        model.eval()(x, y)
    assert len(found) > 20
    for name, (chosen, std, mean) in found.items():
        torch.testing.assert_close(std, torch.full_like(std, chosen), rtol=1e-2, atol=1e-3, msg=name)
        if name != "last":  # whose bias is fitted to the pixels
            torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=1e-3, msg=name)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_likelihood_begins_at_that_of_the_data_of_all_places(family: Any) -> None:
    x = colours(400)
    of_channels = torch.stack(
        [torch.bincount((x[:, c] * 255).round().long().flatten(), minlength=256) for c in range(3)]
    )
    share = (of_channels / of_channels.sum(1, keepdim=True)).clamp_min(1e-6)
    histogram = float(-(share * share.log2()).sum(1).mean())
    bits = []
    for weight_norm in (True, False):
        torch.manual_seed(0)
        model = family((3, 8, 8), DiscretizedLogisticMixture(256, 10), 16, 1, weight_norm=weight_norm)
        model.initialize(x)
        with torch.no_grad():
            bits.append(float(model.loss(x)["loss"]))
    assert bits[0] < histogram + 0.1
    assert bits[1] > histogram + 0.5


@pytest.mark.parametrize("family", FAMILIES)
def test_images_that_are_all_alike_leave_numbers_finite(family: Any) -> None:
    torch.manual_seed(0)
    model = family((1, 4, 4), Bernoulli(2), 8, 1, weight_norm=True)
    model.initialize(torch.zeros(10, 1, 4, 4))
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    model.loss(torch.ones(2, 1, 4, 4))["loss"].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("family", FAMILIES)
def test_copies_averages_and_checkpoints_draw_the_same(family: Any) -> None:
    torch.manual_seed(0)
    model = family((1, 5, 4), Bernoulli(2), 8, 1, weight_norm=True).eval()
    model.initialize(torch.rand(20, 1, 5, 4).round())
    expected = model.sample(3, generator=generators(0, range(3)))
    other = family((1, 5, 4), Bernoulli(2), 8, 1, weight_norm=True).eval()
    other.load_state_dict(model.state_dict())
    average = ExponentialMovingAverage(model, 0.9)
    for same in (copy.deepcopy(model), other, average.model):
        assert torch.equal(same.sample(3, generator=generators(0, range(3))), expected)


def test_hooks_are_gone_after_an_error() -> None:
    network = nn.Sequential(nn.Conv2d(1, 1, 1))
    normalize_weights(network)

    def broken() -> None:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        initialize_from_data(network, broken)
    x = torch.randn(4, 1, 3, 3)
    assert torch.equal(network(x), network(x))
    assert not network[0]._forward_hooks
