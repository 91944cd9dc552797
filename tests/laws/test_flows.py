"""All flows of images: bijection, log-determinant, and the likelihood and samples of the discrete data; the maps of
their couplings, and shaped dequantization."""

import math
from collections.abc import Callable, Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.dequantization import quantize
from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.layers.invertible import ActNorm, FullConvolution, InvertibleConvolution, PlaceNorm
from genlab.layers.running_norm import RunningNorm
from genlab.layers.same_conv import SameConv2d
from genlab.layers.transforms import Affine, BoundedAffine, LogisticMixture, RationalQuadraticSpline, Transform
from genlab.models.abilities import Diagnosable, LatentModel
from genlab.models.flow.flow_plus_plus import AttentiveNet, FlowPlusPlus, MixtureDequantization, Split
from genlab.models.flow.flow_plus_plus import NetOptions as NetOptionsPlusPlus
from genlab.models.flow.glow import Glow
from genlab.models.flow.glow_nets import EdgeConvolution, NetOptions, ZeroConvolution
from genlab.models.flow.image_flow import ImageFlow
from genlab.models.flow.nice import NICE
from genlab.models.flow.real_nvp import RealNVP
from genlab.models.flow.variational_dequantization import VariationalDequantization
from support.tiny_images import every_image, probabilities


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def flow_plus_plus(shape: tuple[int, ...], num_classes: int | None = None, **options: object) -> FlowPlusPlus:
    dequantization = MixtureDequantization(shape, 4, 2, 1, 2, 2, 3)
    small = {"width": 8, "num_blocks": 1, "num_heads": 2, "num_components": 3, "couplings": (2, 1, 2)}
    return FlowPlusPlus(shape, num_classes, dequantization=dequantization, **small, **options)  # type: ignore[arg-type]


def glow_mixture(shape: tuple[int, ...], num_classes: int | None = None, **options: object) -> Glow:
    options |= {"dequantization": VariationalDequantization(shape, 6, 2), "transform": LogisticMixture(3)}
    return Glow(shape, num_classes, num_steps=2, width=8, **options)  # type: ignore[arg-type]


def glow_of(transform: Transform) -> Callable[..., Glow]:
    def make(shape: tuple[int, ...], num_classes: int | None = None, **options: object) -> Glow:
        return Glow(shape, num_classes, transform=transform, num_steps=2, width=8, **options)  # type: ignore[arg-type]

    return make


def glow_as_published(shape: tuple[int, ...], num_classes: int | None = None, **options: object) -> Glow:
    return Glow(shape, num_classes, num_steps=2, width=8, **AS_PUBLISHED, **options)  # type: ignore[arg-type]


def nice(shape: tuple[int, ...], num_classes: int | None = None, **options: object) -> NICE:
    return NICE(shape, num_classes, width=12, num_hidden=2, num_couplings=3, **options)  # type: ignore[arg-type]


def real_nvp(shape: tuple[int, ...], num_classes: int | None = None, **options: object) -> RealNVP:
    return RealNVP(shape, num_classes, width=8, num_couplings=2, **options)  # type: ignore[arg-type]


AS_PUBLISHED: dict[str, object] = {
    "edge_channel": True,
    "nets_normalized": True,
    "log_factor": 3.0,
    "init_std": 0.05,
    "top_by_place": False,
    "lu": False,
    "logit": False,
}


def real_nvp_as_published(shape: tuple[int, ...], num_classes: int | None = None, **options: object) -> RealNVP:
    """In evaluation: in training, its batch normalizations move with each batch."""
    published = {"num_blocks": 2, "patch": 1, "second_kernel": 3, "skips": True, "widen": True, "batch_norm": 0.5}
    model = RealNVP(shape, num_classes, width=8, num_couplings=2, **published, **options)  # type: ignore[arg-type]
    for module in model.modules():
        if isinstance(module, RunningNorm):  # as if trained
            module.mean += 0.5 * torch.randn_like(module.mean)
            module.variance *= torch.exp(0.5 * torch.randn_like(module.variance))
    return model.eval()


FLOWS: dict[str, Callable[..., ImageFlow]] = {
    "real_nvp": real_nvp,
    "real_nvp_as_published": real_nvp_as_published,
    "glow": glow_of(Affine()),
    "glow_as_published": glow_as_published,
    "glow_spline": glow_of(RationalQuadraticSpline(5)),
    "glow_mixture": glow_mixture,
    "flow_plus_plus": flow_plus_plus,
    "nice": nice,
}
SHAPES = [(1, 8, 8), (3, 8, 4), (1, 5, 7), (2, 3, 4), (1, 1, 2), (3, 1, 1)]
all_flows = pytest.mark.parametrize("name", FLOWS)


def flow(
    name: str, shape: tuple[int, ...], num_classes: int | None = None, spread: float = 0.1, **options: object
) -> ImageFlow:
    """A small flow with random weights, far from what it starts as."""
    model = FLOWS[name](shape, num_classes, **options)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += spread * torch.randn_like(parameter)
    return model


def some_classes(num_classes: int | None, num: int) -> Tensor | None:
    return None if num_classes is None else torch.randint(num_classes, (num,))


# -- one to one --------------------------------------------------------------------------------------------------------


@all_flows
@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_inverse(name: str, shape: tuple[int, ...], num_classes: int | None) -> None:
    model = flow(name, shape, num_classes)
    y = some_classes(num_classes, 4)
    h = 2 * torch.randn(4, *shape)
    z, log_det = model.transform(h, y)
    assert z.shape == (4, model.num_dims)
    assert log_det.shape == (4,)
    assert not torch.allclose(z.sort(1).values, h.flatten(1).sort(1).values, atol=1e-3)  # not about the identity
    # Each logit of a distribution function costs a digit in float32.
    torch.testing.assert_close(model.inverse(z, y), h, rtol=0, atol=1e-3 if name == "flow_plus_plus" else 1e-4)
    model, h = model.double(), h.double()
    z, _ = model.transform(h, y)
    torch.testing.assert_close(model.inverse(z, y), h, rtol=0, atol=1e-9)
    torch.testing.assert_close(model.transform(model.inverse(z, y), y)[0], z, rtol=0, atol=1e-9)


@all_flows
@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 4, 4), (1, 5, 3), (3, 1, 1)])
def test_log_det_is_that_of_the_full_jacobian(name: str, shape: tuple[int, ...], num_classes: int | None) -> None:
    model = flow(name, shape, num_classes, spread=0.2).double()
    h, y = torch.randn(2, *shape, dtype=torch.float64), some_classes(num_classes, 2)
    _, log_det = model.transform(h, y)
    assert (log_det.abs() > 0.02).all()
    for i in range(2):
        y_i = None if y is None else y[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v, y=y_i: model.transform(v[None], y)[0][0], h[i])
        full = torch.linalg.slogdet(jacobian.view(model.num_dims, model.num_dims)).logabsdet
        torch.testing.assert_close(log_det[i], full, rtol=0, atol=1e-9)


@all_flows
def test_an_example_does_not_depend_on_its_batch(name: str) -> None:
    model = flow(name, (1, 8, 8)).double()
    h = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    z, log_det = model.transform(h)
    for i in range(5):
        z_i, log_det_i = model.transform(h[i : i + 1])
        torch.testing.assert_close(z_i[0], z[i])
        torch.testing.assert_close(log_det_i[0], log_det[i])
    z_other, log_det_other = model.eval().transform(h)
    assert torch.equal(z_other, z)
    assert torch.equal(log_det_other, log_det)


@all_flows
def test_the_inverse_is_watched(name: str) -> None:
    model = flow(name, (1, 8, 8), 3)
    assert isinstance(model, Diagnosable)
    x, y = torch.randint(256, (130, 1, 8, 8)) / 255, some_classes(3, 130)
    error = model.diagnose(x, y)["inverse_error"]
    assert 0 < error < 1e-3
    model.inverse = lambda z, y=None: model.__class__.inverse(model, z, y) + 0.5  # type: ignore[method-assign]
    assert model.diagnose(x, y)["inverse_error"] == pytest.approx(0.5, abs=1e-3)


@all_flows
def test_bfloat16_networks_leave_the_likelihood_in_float32(name: str) -> None:
    model = flow(name, (1, 8, 8), spread=0.05)
    h = torch.randn(4, 1, 8, 8)
    z, log_det = model.transform(h)
    with torch.autocast("cpu", torch.bfloat16):
        z_16, log_det_16 = model.transform(h)
        back = model.inverse(z_16)
        assert model.log_prob(torch.rand(2, 1, 8, 8)).dtype == torch.float32
    assert z_16.dtype == log_det_16.dtype == torch.float32
    assert not torch.equal(z_16, z)
    torch.testing.assert_close(z_16, z, rtol=0.05, atol=0.1)
    torch.testing.assert_close(log_det_16, log_det, rtol=0.02, atol=0.5)
    assert back.dtype == torch.float32
    torch.testing.assert_close(back, h, rtol=0, atol=0.05)


# -- the likelihood of discrete data -----------------------------------------------------------------------------------


def tiny(name: str) -> ImageFlow:
    model = flow(name, (1, 1, 2), spread=0.2, levels=4)
    if isinstance(model, FlowPlusPlus):
        model.dequantization = None  # Monte Carlo with its noise, whose tails are thin, would need too many draws
    if isinstance(model, NICE):  # which starts with a fifteenth of its mass on [0, 1]
        model.log_scale.data += 2.0
    if isinstance(model, Glow) and model.alpha is None:  # of values of mean 0 and variance 1
        model.get_submodule("scales.0.0.norm").bias.data -= 0.5  # type: ignore[union-attr,operator]
        model.get_submodule("scales.0.0.norm").log_scale.data += math.log(16) / 3  # type: ignore[union-attr,operator]
    return model


@all_flows
def test_the_probabilities_of_all_images_sum_to_the_mass_of_the_unit_square(name: str) -> None:
    model = tiny(name)
    total = probabilities(model, every_image(4), draws=5000).sum()
    with torch.no_grad():
        h = model.inverse(model.from_noise(torch.randn(40_000, 2))).flatten(1)
    # The rest of the mass is on reals beyond those of 0 and 1.
    ends = torch.tensor([0.0, 1.0])
    low, high = ends if model.alpha is None else torch.logit(model.alpha + (1 - 2 * model.alpha) * ends)
    inside = ((h > low) & (h < high)).all(1).float().mean()
    assert inside > 0.1
    torch.testing.assert_close(total, inside, rtol=0, atol=0.02)


@all_flows
def test_samples_have_the_frequencies_that_log_prob_says(name: str) -> None:
    model = tiny(name)
    expected = probabilities(model, every_image(4), draws=5000)
    with torch.no_grad():
        points = model.decode(torch.randn(40_000, 2)).flatten(1)
    points = points[((points > 0) & (points < 1)).all(1)]  # the rest is of reals beyond those of 0 and 1
    index = (quantize(points, 4) * 3).round().long()
    counts = torch.bincount(4 * index[:, 0] + index[:, 1], minlength=16) / 40_000
    assert (expected.max() - expected.min()) > 0.02
    assert (counts - expected).abs().sum() / 2 < 0.02  # total variation


@all_flows
@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_encode_decode_and_sample(name: str, shape: tuple[int, ...], num_classes: int | None) -> None:
    model = flow(name, shape, num_classes, levels=17)
    assert isinstance(model, LatentModel)
    x, y = torch.randint(17, (4, *shape)) / 16, some_classes(num_classes, 4)
    z = model.encode(x, y)
    assert z.shape == (4, model.num_dims)
    decoded = model.decode(z, y)
    torch.testing.assert_close(decoded, (16 * x + 0.5) / 17, rtol=0, atol=2e-4)  # the middle of the bin
    torch.testing.assert_close(quantize(decoded, 17), x)
    samples = model.sample(5)
    assert samples.shape == (5, *shape)
    torch.testing.assert_close(samples * 16, (samples * 16).round())
    assert samples.min() >= 0
    assert samples.max() <= 1
    assert model.log_prob(samples, some_classes(num_classes, 5)).isfinite().all()


@all_flows
def test_a_sample_depends_on_its_own_generator_alone(name: str) -> None:
    model = flow(name, (1, 8, 8), 3).double()
    together = model.sample(6, generator=generators(1, range(6)))
    apart = torch.cat([model.sample(2, generator=generators(1, (i, i + 1))) for i in (0, 2, 4)])
    torch.testing.assert_close(together, apart)
    assert not torch.equal(together[0], together[1])
    y, z = torch.tensor([2, 0]), torch.randn(2, 64, generator=torch.Generator().manual_seed(5))
    drawn = model.sample(2, y, generator=torch.Generator().manual_seed(5))
    assert torch.equal(drawn, quantize(model.decode(z, y), model.levels))
    origin = quantize(model.decode(torch.zeros(1, 64), torch.tensor([1])), model.levels)
    cold = model.sample(3, torch.ones(3, dtype=torch.long), sampling=model.Sampling(temperature=1e-12))
    assert torch.equal(cold, origin.expand(3, -1, -1, -1))


@all_flows
def test_a_class_changes_the_likelihood_and_must_be_given(name: str) -> None:
    model = flow(name, (1, 8, 8), 3)
    h = torch.randn(1, 1, 8, 8)
    with torch.no_grad():
        scores = [model.transform(h, torch.tensor([k])) for k in range(3)]
    assert len({round(float(model.log_prior(z) + log_det), 6) for z, log_det in scores}) == 3
    for method, argument in (
        (model.log_prob, torch.zeros(1, 1, 8, 8)),
        (model.encode, torch.zeros(1, 1, 8, 8)),
        (model.decode, torch.zeros(1, 64)),
    ):
        with pytest.raises(InputError, match="give the classes y"):
            method(argument)


@all_flows
def test_every_parameter_learns(name: str) -> None:
    model = flow(name, (1, 8, 8), 3)
    model.loss(torch.rand(6, 1, 8, 8), torch.arange(6) % 3)["loss"].backward()
    for parameter_name, parameter in model.named_parameters():
        assert parameter.grad is not None, parameter_name
        assert parameter.grad.isfinite().all(), parameter_name
        assert parameter.grad.abs().max() > 0, parameter_name


@pytest.mark.parametrize("name", ["glow_mixture", "flow_plus_plus"])
def test_training_finds_that_pixels_agree(name: str) -> None:
    # Black or white as a whole: 1/16 bits/dim, where pixels on their own cost 1.
    model = FLOWS[name]((1, 4, 4), levels=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(100):
        x = torch.randint(2, (64, 1, 1, 1)).float().expand(-1, 1, 4, 4)
        if step == 0:
            model.initialize(x)
        loss = model.loss(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss < 0.7


# -- Glow --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "num_scales", "scales", "top"),
    [
        ((3, 32, 32), 3, 3, (48, 4, 4)),
        ((1, 28, 28), 3, 2, (8, 7, 7)),
        ((1, 8, 8), 3, 2, (8, 2, 2)),
        ((1, 8, 8), 1, 1, (4, 4, 4)),
        ((1, 5, 7), 3, 1, (1, 5, 7)),
        ((2, 6, 4), 3, 1, (8, 3, 2)),
        ((3, 1, 1), 3, 1, (3, 1, 1)),
    ],
)
def test_scales_adapt_to_the_shape(shape: tuple[int, ...], num_scales: int, scales: int, top: tuple[int, ...]) -> None:
    model = Glow(shape, num_scales=num_scales, num_steps=1, width=2)
    assert len(model.scales) == scales
    assert len(model.splits) == scales - 1
    assert model.top_shape == top


def layer_by_layer(model: ImageFlow, h: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
    assert isinstance(model, Glow)
    return model._transform(h, y, lambda steps, h: steps.layer_by_layer(h, y))


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 4), (1, 5, 7), (3, 1, 1)])
@pytest.mark.parametrize("name", ["glow", "glow_as_published", "glow_spline"])
def test_steps_prepared_together_compute_what_their_layers_do(
    name: str, shape: tuple[int, ...], num_classes: int | None
) -> None:
    model = flow(name, shape, num_classes).double()
    h, y = torch.randn(4, *shape, dtype=torch.float64, requires_grad=True), some_classes(num_classes, 4)
    found = []
    for z, log_det in (model.transform(h, y), layer_by_layer(model, h, y)):
        gradients = torch.autograd.grad(
            (z.square().sum(1) * log_det).sum(), [h, *model.parameters()], allow_unused=True
        )
        found.append([z, log_det, *(gradient for gradient in gradients if gradient is not None)])
    for together, apart in zip(*found, strict=True):
        torch.testing.assert_close(together, apart)


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 8, 4), (1, 5, 7)])
def test_normalizations_start_from_the_data(shape: tuple[int, ...], num_classes: int | None) -> None:
    model = flow("glow_mixture", shape, num_classes, levels=17)
    x, y = (torch.randint(17, (64, *shape)) / 16) ** 2, some_classes(num_classes, 64)
    torch.manual_seed(1)
    model.initialize(x, y)
    normalised: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda module, args, out: normalised.append(out[0]))
    torch.manual_seed(1)  # the same dequantization
    layer_by_layer(model, model._to_reals(model._draw(x)[0])[0], y)
    assert len(normalised) == 2 * len(model.get_submodule("scales"))  # type: ignore[arg-type]
    for h in normalised:
        torch.testing.assert_close(h.mean((0, 2, 3)), torch.zeros(h.shape[1]), rtol=0, atol=1e-4)
        torch.testing.assert_close(h.var((0, 2, 3), correction=0), torch.ones(h.shape[1]), rtol=0, atol=1e-3)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_normalizations_in_the_networks_start_from_the_data_too(num_classes: int | None) -> None:
    model = flow("glow_as_published", (3, 8, 8), num_classes)
    x, y = torch.rand(64, 3, 8, 8) ** 2, some_classes(num_classes, 64)
    torch.manual_seed(1)
    model.initialize(x, y)
    weights = {name: value.clone() for name, value in model.state_dict().items()}
    normalised: list[Tensor] = []
    for module in model.modules():
        if isinstance(module, ActNorm):
            module.register_forward_hook(lambda module, args, out: normalised.append(out[0]))
    torch.manual_seed(1)  # the same dequantization
    layer_by_layer(model, model._to_reals(model._draw(x)[0])[0], y)
    assert len(normalised) == 2 * 2 * 3  # at each of two scales two steps, each with one and its network's two
    for h in normalised:
        torch.testing.assert_close(h.mean((0, 2, 3)), torch.zeros(h.shape[1]), rtol=0, atol=1e-4)
        torch.testing.assert_close(h.var((0, 2, 3), correction=0), torch.ones(h.shape[1]), rtol=0, atol=1e-3)
    for name, value in model.state_dict().items():  # a pass does not initialize them again
        assert torch.equal(value, weights[name]), name


def test_a_log_factor_scales_what_is_learned() -> None:
    norm = ActNorm(3, log_factor=3.0)
    h = 5 * torch.randn(8, 3, 4, 4) + 1
    norm.fit(h)
    normalised, log_det = norm(h)
    torch.testing.assert_close(normalised.var((0, 2, 3), correction=0), torch.ones(3))
    torch.testing.assert_close(norm.log_scale.flatten(), -h.std((0, 2, 3), correction=0).log() / 3)
    torch.testing.assert_close(log_det, 3 * 16 * norm.log_scale.sum())
    torch.testing.assert_close(norm.inverse(normalised), h)
    conv = ZeroConvolution(3, 2, NetOptions(width=4, num_classes=None, log_factor=3.0))
    assert conv.log_gain is not None
    assert torch.equal(conv(h), torch.zeros(8, 2, 4, 4))
    nn.init.normal_(conv.weight)
    before = conv(h)
    conv.log_gain.data[1] = 0.5
    torch.testing.assert_close(conv(h)[:, 0], before[:, 0])
    torch.testing.assert_close(conv(h)[:, 1], math.exp(1.5) * before[:, 1])


def test_an_edge_channel_is_one_beyond_the_edges_and_zero_within() -> None:
    conv = EdgeConvolution(2, 3, edge_channel=True)
    h = torch.randn(4, 2, 5, 6)
    wide = torch.cat([F.pad(h, [1] * 4), F.pad(torch.zeros(4, 1, 5, 6), [1] * 4, value=1.0)], 1)
    torch.testing.assert_close(conv(h), F.conv2d(wide, conv.weight, conv.bias))
    conv.weight.data[:, :2] = 0
    told = conv(h) - conv.bias[None, :, None, None]  # type: ignore[index]
    assert torch.equal(told[:, :, 1:-1, 1:-1], torch.zeros(4, 3, 3, 4))
    assert (told[:, :, 0] != 0).all()


def test_the_top_s_gaussians_are_one_per_channel_but_for_the_edges() -> None:
    model = flow("glow_as_published", (3, 16, 16), num_scales=1)
    mean, log_std = (values.view(2, 12, 8, 8) for values in model._top(2, None))  # type: ignore[operator]
    for values in (mean, log_std):
        assert torch.equal(values[0], values[1])
        inner = values[0, :, 1:-1, 1:-1]
        torch.testing.assert_close(inner, inner[:, :1, :1].expand_as(inner))
        assert (inner[:, 0, 0] - inner[:1, 0, 0]).abs().max() > 0.01
        assert (values[0, :, 0, 0] - values[0, :, 1, 1]).abs().max() > 0.01


def test_the_networks_start_with_the_spread_that_is_asked_for() -> None:
    model = Glow((3, 8, 8), num_steps=2, width=64, init_std=0.05)
    nets = [step.coupling.net for steps in model.scales for step in steps]  # type: ignore[union-attr,attr-defined]
    for net in nets:
        for conv in (net.first, net.middle):
            assert 0.04 < conv.weight.std() < 0.06
            assert torch.equal(conv.bias, torch.zeros(64))


def test_a_checkpoint_holds_all_of_a_flow_however_it_was_started() -> None:
    model = flow("glow", (3, 8, 8))
    model.initialize(torch.rand(32, 3, 8, 8))
    for parameter in model.parameters():  # as if trained
        parameter.data += 0.05 * torch.randn_like(parameter)
    h = torch.randn(4, 3, 8, 8)
    for starts in (1, 2):
        other = flow("glow", (3, 8, 8))  # another random rotation
        for _ in range(starts):
            other.initialize(torch.rand(32, 3, 8, 8) ** 3)
        assert not torch.equal(other.transform(h)[0], model.transform(h)[0])
        other.load_state_dict(model.state_dict())
        assert torch.equal(other.transform(h)[0], model.transform(h)[0])
        assert torch.equal(other.transform(h)[1], model.transform(h)[1])


@pytest.mark.parametrize("kind", [InvertibleConvolution, FullConvolution])
def test_the_convolution_starts_as_a_rotation(kind: type[InvertibleConvolution | FullConvolution]) -> None:
    mix = kind(6)
    h = torch.randn(2, 6, 3, 3)
    mixed, log_det = mix(h)
    torch.testing.assert_close(mixed.norm(dim=1), h.norm(dim=1))
    torch.testing.assert_close(log_det, torch.tensor(0.0), rtol=0, atol=1e-4)
    torch.testing.assert_close(mix.inverse(mixed), h, rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_checkpointing_gives_the_same_gradients(num_classes: int | None) -> None:
    plain, checkpointed = (FLOWS["glow_spline"]((1, 8, 8), num_classes, checkpointing=c) for c in (False, True))
    for parameter in plain.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    checkpointed.load_state_dict(plain.state_dict())
    x, y = torch.rand(4, 1, 8, 8), some_classes(num_classes, 4)
    for model in (plain, checkpointed):
        torch.manual_seed(1)
        model.loss(x, y)["loss"].backward()
    for a, b in zip(plain.parameters(), checkpointed.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


# -- Flow++ ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 6, 4), (1, 5, 7)])
def test_all_of_flow_plus_plus_starts_from_the_data(shape: tuple[int, ...], num_classes: int | None) -> None:
    model = flow("flow_plus_plus", shape, num_classes, levels=17, dropout=0.5)
    x, y = (torch.randint(17, (128, *shape)) / 16) ** 2, some_classes(num_classes, 128)
    torch.manual_seed(1)
    model.initialize(x, y)
    assert model.training
    seen: list[tuple[nn.Module, Tensor]] = []
    for module in model.modules():
        if isinstance(module, PlaceNorm | SameConv2d):
            module.register_forward_hook(
                lambda module, args, out: seen.append((module, out[0] if isinstance(out, tuple) else out))
            )
    torch.manual_seed(1)  # the same dequantization
    with torch.no_grad():
        model.eval().log_prob(x, y)
    assert len(seen) == len({module for module, _ in seen})
    couplings = 2 + 2 + (0 if shape[1] % 2 else 1 + 2)
    assert sum(isinstance(module, PlaceNorm) for module, _ in seen) == 2 * couplings
    for module, h in seen:
        axes = 0 if isinstance(module, PlaceNorm) else (0, 2, 3)
        std, mean = torch.std_mean(h, axes, correction=0)
        expected = 1.0 if isinstance(module, PlaceNorm) else module.first_deviation
        torch.testing.assert_close(mean, torch.zeros_like(mean), rtol=0, atol=2e-3)
        torch.testing.assert_close(std, torch.full_like(std, expected), rtol=0.02, atol=0)


@pytest.mark.parametrize(("shape", "columns"), [((1, 4, 6), True), ((2, 5, 7), True), ((4, 3, 2), False)])
def test_a_split_takes_all_places_once_and_back(shape: tuple[int, int, int], columns: bool) -> None:
    split, h = Split(shape, columns), torch.arange(2.0 * math.prod(shape)).view(2, *shape)
    first, second = split(h)
    if columns:
        assert torch.equal(first, h[..., ::2])
        assert torch.equal(second, h[..., 1::2])
    else:
        assert torch.equal(first, h[:, :2])
    assert split.shapes == (first.shape[1:], second.shape[1:])
    assert torch.equal(split.inverse((first, second)), h)


def test_attention_of_flow_plus_plus_sees_every_place() -> None:
    """With one block, a convolution reaches two places; what lies farther is seen by attention alone."""
    net = AttentiveNet((1, 12, 12), 2, NetOptionsPlusPlus(8, 1, 2, 3))
    h = torch.randn(1, 1, 12, 12, requires_grad=True)
    (gradient,) = torch.autograd.grad(net(h, None, None)[0, :, 0, 0].sum(), h)
    assert (gradient[0, 0, -1] != 0).all()
    net.attentions[0] = Nothing()
    (gradient,) = torch.autograd.grad(net(h, None, None)[0, :, 0, 0].sum(), h)
    assert (gradient[0, 0, 5:] == 0).all()


class Nothing(nn.Module):
    def forward(self, h: Tensor, positions: Tensor) -> Tensor:
        return h


# -- NICE --------------------------------------------------------------------------------------------------------------


def test_logistic_latents_and_normal_ones_have_the_same_probabilities() -> None:
    model = nice((1, 2, 2))
    noise = torch.tensor([[-9.0, -3.0, -0.1, 0.0], [0.1, 1.0, 4.0, 9.0]], dtype=torch.float64)
    z = model.from_noise(noise)
    torch.testing.assert_close(torch.sigmoid(-z.abs()), torch.special.ndtr(-noise.abs()))
    torch.testing.assert_close(model.to_noise(z), noise)
    torch.testing.assert_close(model.to_noise(model.from_noise(noise.float())), noise.float(), rtol=1e-5, atol=1e-6)
    assert model.to_noise(torch.tensor([[1000.0, -1000.0, 0.0, 1.0]])).isfinite().all()
    # The prior's density is the normal's, with the change of variables.
    noise.requires_grad_()
    z = model.from_noise(noise)
    slope = torch.autograd.grad(z.sum(), noise)[0]
    log_normal = -0.5 * (noise.square() + math.log(2 * math.pi))
    torch.testing.assert_close(model.log_prior(z), (log_normal - slope.log()).sum(1))


def test_a_nice_starts_with_the_size_of_its_prior() -> None:
    model = NICE((1, 4, 5), levels=17, width=8)
    x = (torch.randint(17, (500, 1, 4, 5)) / 16) ** 3
    torch.manual_seed(1)
    model.initialize(x)
    torch.manual_seed(1)  # the same dequantization
    z, _ = model.transform(model._to_reals(model._draw(x)[0])[0])
    torch.testing.assert_close(z.mean(0), torch.zeros(20), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.var(0, correction=0), torch.full((20,), math.pi**2 / 3), rtol=1e-3, atol=0)


# -- the maps of couplings ---------------------------------------------------------------------------------------------

TRANSFORMS = [Affine(), RationalQuadraticSpline(2), RationalQuadraticSpline(8, bound=2.0), LogisticMixture(1)]
TRANSFORMS += [LogisticMixture(4), BoundedAffine(), LogisticMixture(3, BoundedAffine())]
all_transforms = pytest.mark.parametrize("transform", TRANSFORMS, ids=lambda t: f"{type(t).__name__}-{t.num_params}")


@all_transforms
def test_a_map_and_its_inverse(transform: Transform) -> None:
    params = torch.randn(6, transform.num_params, 2, 50)
    x = 2 * torch.randn(6, 2, 50)
    for dtype, error in ((torch.float32, 1e-4), (torch.float64, 1e-9)):
        y, log_slope = transform.forward(x.to(dtype), params.to(dtype))
        assert y.dtype == log_slope.dtype == dtype
        assert y.shape == log_slope.shape == x.shape
        torch.testing.assert_close(transform.inverse(y, params.to(dtype)), x.to(dtype), rtol=0, atol=error)


@all_transforms
def test_a_slope_is_autograd_s(transform: Transform) -> None:
    params = torch.randn(6, transform.num_params, 50, dtype=torch.float64)
    x = (2 * torch.randn(6, 50, dtype=torch.float64)).requires_grad_()
    y, log_slope = transform.forward(x, params)
    (slope,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(slope.log(), log_slope)


@all_transforms
def test_a_map_increases(transform: Transform) -> None:
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64).expand(8, -1)
    params = (2 * torch.randn(8, transform.num_params, 1, dtype=torch.float64)).expand(-1, -1, 2001)
    y, _ = transform.forward(x, params)
    assert (y.diff(dim=1) > 0).all()


@all_transforms
def test_half_precision_parameters_and_values_are_promoted(transform: Transform) -> None:
    params, x = torch.randn(2, transform.num_params, 5).bfloat16(), torch.randn(2, 5)
    y, log_slope = transform.forward(x, params)
    assert y.dtype == log_slope.dtype == transform.inverse(y, params).dtype == torch.float32
    assert transform.forward(x.bfloat16(), params)[0].dtype == torch.float32


@all_transforms
def test_far_values_are_finite_and_come_back(transform: Transform) -> None:
    x = torch.tensor([[-1e4, -50.0, 50.0, 1e4]])
    params = torch.randn(1, transform.num_params, 4).requires_grad_()
    y, log_slope = transform.forward(x, params)
    torch.testing.assert_close(transform.inverse(y, params), x, rtol=1e-4, atol=0)
    (y.sum() + log_slope.sum()).backward()
    assert params.grad is not None
    assert params.grad.isfinite().all()
    assert log_slope.isfinite().all()


def test_a_spline_of_zeros_is_the_identity_and_any_spline_is_outside_of_its_bound() -> None:
    spline = RationalQuadraticSpline(8, bound=3.0)
    x = torch.linspace(-5, 5, 101).expand(2, -1)
    y, log_slope = spline.forward(x, torch.zeros(2, spline.num_params, 101))
    torch.testing.assert_close(y, x, rtol=0, atol=1e-5)
    torch.testing.assert_close(log_slope, torch.zeros_like(x), rtol=0, atol=1e-5)
    y, log_slope = spline.forward(x, torch.randn(2, spline.num_params, 101))
    outside = x.abs() >= 3
    assert torch.equal(y[outside], x[outside])
    assert (log_slope[outside] == 0).all()
    assert (y[~outside].abs() <= 3).all()
    assert (y[~outside] - x[~outside]).abs().max() > 0.1


def test_a_mixture_of_one_logistic_is_an_affine_map() -> None:
    mixture, affine = LogisticMixture(1), Affine()
    params = torch.randn(3, 5, 10, dtype=torch.float64)
    x = torch.randn(3, 10, dtype=torch.float64)
    _, mean, log_scale = params[:, :3].unbind(1)
    scale = torch.exp(3 * torch.tanh(log_scale / 3))
    torch.testing.assert_close(mixture.forward(x, params)[0], affine.forward((x - mean) / scale, params[:, 3:])[0])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: RationalQuadraticSpline(1), "num_bins"),
        (lambda: RationalQuadraticSpline(bound=0.0), "bound"),
        (lambda: RationalQuadraticSpline(10, least=0.1), "least"),
        (lambda: LogisticMixture(0), "num_components"),
        (lambda: VariationalDequantization((4,)), "images"),
        (lambda: VariationalDequantization((1, 4, 4), width=0), "width"),
        (lambda: MixtureDequantization((1, 1, 1)), "two values"),
        (lambda: MixtureDequantization((1, 4, 4), num_couplings=0), "num_couplings=0"),
        (lambda: FlowPlusPlus((4,)), "FlowPlusPlus models images"),
        (lambda: FlowPlusPlus((1, 1, 1)), "two values"),
        (lambda: FlowPlusPlus((1, 4, 4), width=6, num_heads=4), "multiple of the heads"),
        (lambda: FlowPlusPlus((1, 4, 4), num_blocks=0), "num_blocks=0"),
        (lambda: FlowPlusPlus((1, 4, 4), couplings=(1, 2)), "three numbers"),
        (lambda: FlowPlusPlus((1, 4, 4), dropout=1.0), "dropout"),
        (lambda: Glow((4,)), "Glow models images"),
        (lambda: Glow((1, 1, 1)), "two values"),
        (lambda: Glow((1, 4, 4), num_steps=0), "num_steps"),
        (lambda: Glow((1, 4, 4), alpha=0.5), "alpha"),
        (lambda: Glow((1, 4, 4), alpha=0.05, logit=False), "logit=false"),
        (lambda: Glow((1, 4, 4), log_factor=0.0), "log_factor"),
        (lambda: Glow((1, 4, 4), init_std=-1.0), "init_std"),
        (lambda: NICE((4,)), "NICE models images"),
        (lambda: NICE((1, 4, 4), levels=1), "levels"),
        (lambda: NICE((1, 4, 4), num_hidden=0), "num_hidden"),
    ],
)
def test_bad_options_are_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


# -- shaped dequantization ---------------------------------------------------------------------------------------------


Noise = VariationalDequantization | MixtureDequantization
SHAPED: dict[str, Callable[[tuple[int, ...]], Noise]] = {
    "affine": lambda shape: VariationalDequantization(shape, width=6, num_couplings=3),
    "mixture": lambda shape: MixtureDequantization(shape, 4, 3, 1, 2, 3, 4),
}


def shaped(kind: str, shape: tuple[int, ...], spread: float = 0.3) -> Noise:
    noise = SHAPED[kind](shape).double()
    for parameter in noise.parameters():
        parameter.data += spread * torch.randn_like(parameter)
    return noise


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 1, 1), (1, 2, 2), (1, 1, 1)])
def test_the_noise_s_density_integrates_to_1(shape: tuple[int, ...]) -> None:
    # E_q[1 / q(u)] is the volume of the cube.
    noise = shaped("affine", shape, spread=0.15)
    for image in torch.rand(2, 1, *shape, dtype=torch.float64):
        with torch.no_grad():
            u, log_q = noise(image.expand(40_000, -1, -1, -1))
        assert u.min() > 0
        assert u.max() < 1
        assert log_q.std() > 0.05
        torch.testing.assert_close(torch.exp(-log_q).mean(), log_q.new_tensor(1.0), rtol=0, atol=0.03)


@pytest.mark.parametrize("shape", [(1, 1, 2), (2, 1, 1), (1, 2, 1)])
def test_the_mixture_noise_s_density_integrates_to_1(shape: tuple[int, ...]) -> None:
    noise = shaped("mixture", shape)
    assert isinstance(noise, MixtureDequantization)
    points = (torch.arange(400, dtype=torch.float64) + 0.5) / 400
    grid = torch.cartesian_prod(points, points).view(-1, *shape)
    x = torch.rand(1, *shape, dtype=torch.float64).expand(len(grid), -1, -1, -1)
    with torch.no_grad():
        u, log_q = noise.from_noise(noise.stage.inverse(grid.logit(), noise._context(x)), x)
    torch.testing.assert_close(u, grid, rtol=0, atol=1e-9)
    assert log_q.exp().std() > 0.1
    torch.testing.assert_close(log_q.exp().mean(), log_q.new_tensor(1.0), rtol=0, atol=0.01)


def test_the_mixture_noise_s_density_is_that_of_the_full_jacobian() -> None:
    noise = shaped("mixture", (2, 3, 3))
    assert isinstance(noise, MixtureDequantization)
    x, eps = torch.rand(1, 2, 3, 3, dtype=torch.float64), torch.randn(1, 2, 3, 3, dtype=torch.float64)
    u, log_q = noise.from_noise(eps, x)
    jacobian = torch.autograd.functional.jacobian(lambda e: noise.from_noise(e, x)[0].flatten(), eps)
    log_eps = torch.distributions.Normal(0.0, 1.0).log_prob(eps).sum()
    torch.testing.assert_close(log_q[0], log_eps - torch.linalg.slogdet(jacobian.view(18, 18)).logabsdet)
    assert not torch.allclose(noise.from_noise(eps, 1 - x)[0], u)


def test_the_noise_s_density_is_that_of_the_full_jacobian() -> None:
    noise = shaped("affine", (2, 3, 2))
    assert isinstance(noise, VariationalDequantization)
    x, eps = torch.rand(1, 2, 3, 2, dtype=torch.float64), torch.randn(1, 2, 3, 2, dtype=torch.float64)
    u, log_q = noise.from_logistic(eps, x)
    jacobian = torch.autograd.functional.jacobian(lambda e: noise.from_logistic(e, x)[0].flatten(), eps)
    log_eps = (F.logsigmoid(eps) + F.logsigmoid(-eps)).sum()
    torch.testing.assert_close(log_q[0], log_eps - torch.linalg.slogdet(jacobian.view(12, 12)).logabsdet)
    assert u.shape == x.shape


def test_the_noise_starts_uniform_and_then_depends_on_the_image() -> None:
    noise = VariationalDequantization((1, 4, 4), width=6, num_couplings=2)
    u, log_q = noise(torch.rand(2000, 1, 4, 4))
    torch.testing.assert_close(log_q, torch.zeros(2000), rtol=0, atol=1e-4)
    assert (u.mean() - 0.5).abs() < 0.01
    assert (u.var() - 1 / 12).abs() < 0.002
    noise = shaped("affine", (1, 4, 4))  # type: ignore[assignment]
    draws = []
    for x in (torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)):
        torch.manual_seed(1)
        draws.append(noise(x.double())[0])
    assert (draws[0] - draws[1]).abs().max() > 0.01


def test_learned_noise_tightens_the_bound() -> None:
    # A density that rises within each bin: uniform noise loses what q(u) gains by drawing near the top.
    model = Glow((1, 1, 2), levels=2, num_steps=1, width=2, dequantization=VariationalDequantization((1, 1, 2), 8, 2))
    x = torch.zeros(512, 1, 1, 2)
    with torch.no_grad():
        before = model.log_prob(x.repeat(20, 1, 1, 1)).mean()
        exact = torch.logsumexp(model.log_prob(x.repeat(100, 1, 1, 1)), 0) - math.log(51_200)
    assert model.dequantization is not None
    optimizer = torch.optim.Adam(model.dequantization.parameters(), lr=1e-2)
    for _ in range(150):
        optimizer.zero_grad()
        (-model.log_prob(x).mean()).backward()
        optimizer.step()
    with torch.no_grad():
        after = model.log_prob(x.repeat(20, 1, 1, 1)).mean()
    assert before < after < exact + 0.01
    assert exact - after < 0.3 * (exact - before)
