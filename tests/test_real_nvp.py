"""RealNVP: bijection, log-determinant, and the likelihood and samples of the discrete data."""

import itertools
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from genlab.distributions.dequantization import quantize
from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.layers.coupling import AffineCoupling, channel_mask, checkerboard_mask, squeeze, unsqueeze
from genlab.models.base import LatentModel
from genlab.models.flow.real_nvp import RealNVP

SHAPES = [(1, 8, 8), (1, 28, 28), (3, 16, 16), (1, 5, 7), (2, 3, 4), (1, 4, 6), (1, 1, 2), (3, 1, 1)]


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


def flow(shape: tuple[int, ...], num_classes: int | None = None, spread: float = 0.05, **options: int) -> RealNVP:
    """A small flow with random weights, far from the identity that it starts as."""
    model = RealNVP(shape, num_classes, **{"width": 8, "num_couplings": 2, **options})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += spread * torch.randn_like(parameter)
    return model


def some_classes(num_classes: int | None, num: int) -> Tensor | None:
    return None if num_classes is None else torch.randint(num_classes, (num,))


@pytest.mark.parametrize("shape", [(1, 2, 2), (3, 4, 6)])
def test_squeeze_keeps_patches_together(shape: tuple[int, ...]) -> None:
    h = torch.randn(2, *shape)
    squeezed = squeeze(h)
    assert torch.equal(unsqueeze(squeezed), h)
    patch = h[:, :, -2:, -2:].permute(0, 2, 3, 1).flatten(1)
    assert torch.equal(squeezed[:, :, -1, -1], patch)
    first_half, _ = squeezed.chunk(2, 1)
    assert torch.equal(first_half.flatten().sort().values, h[:, :, ::2].flatten().sort().values)  # every second row


@pytest.mark.parametrize("masks", [[checkerboard_mask(3, 4, p) for p in (0, 1)], [channel_mask(5, p) for p in (0, 1)]])
def test_two_masks_share_out_all_values(masks: list[Tensor]) -> None:
    assert torch.equal(masks[0] + masks[1], torch.ones_like(masks[0]))
    assert 0 < masks[0].mean() < 1


def test_a_coupling_keeps_what_the_mask_covers_and_sees_nothing_else() -> None:
    net = torch.nn.Conv2d(2, 4, 3, padding=1)
    coupling = AffineCoupling(lambda h, y: net(h), checkerboard_mask(4, 4, 0), 2)  # type: ignore[arg-type]
    covered = coupling.mask.expand(2, 4, 4).bool()
    h = torch.randn(1, 2, 4, 4)
    out, log_det = coupling(h)
    assert torch.equal(out[0][covered], h[0][covered])
    assert (out[0][~covered] != h[0][~covered]).all()
    _, other = coupling(torch.where(covered, h, torch.randn_like(h)))
    assert torch.equal(log_det, other)


@pytest.mark.parametrize(
    ("shape", "num_scales", "scales", "last"),
    [
        ((1, 28, 28), 3, 3, (4, 7, 7)),
        ((3, 32, 32), 3, 3, (12, 8, 8)),
        ((1, 8, 8), 3, 3, (4, 2, 2)),
        ((1, 28, 28), 1, 1, (1, 28, 28)),
        ((1, 28, 28), 9, 3, (4, 7, 7)),
        ((1, 5, 7), 3, 1, (1, 5, 7)),
        ((2, 3, 4), 3, 1, (2, 3, 4)),
        ((1, 2, 8), 3, 1, (1, 2, 8)),
    ],
)
def test_scales_adapt_to_the_shape(shape: tuple[int, ...], num_scales: int, scales: int, last: tuple[int, ...]) -> None:
    model = RealNVP(shape, num_scales=num_scales, width=2)
    assert len(model.scales) + 1 == scales
    assert model.last_shape == last


@pytest.mark.parametrize("shape", SHAPES)
def test_a_new_flow_is_the_identity_up_to_order(shape: tuple[int, ...]) -> None:
    model = RealNVP(shape, width=8)
    h = torch.randn(3, *shape)
    z, log_det = model.transform(h)
    assert torch.equal(z.sort(1).values, h.flatten(1).sort(1).values)
    assert torch.equal(log_det, torch.zeros(3))


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_inverse(shape: tuple[int, ...], num_classes: int | None) -> None:
    model = flow(shape, num_classes)
    y = some_classes(num_classes, 4)
    h = 3 * torch.randn(4, *shape)
    z, log_det = model.transform(h, y)
    assert z.shape == (4, model.num_dims)
    assert (log_det.abs() > 1e-3).all()  # not about the identity
    torch.testing.assert_close(model.inverse(z, y), h, rtol=0, atol=1e-4)
    model, h = model.double(), h.double()
    z, _ = model.transform(h, y)
    torch.testing.assert_close(model.inverse(z, y), h, rtol=0, atol=1e-9)
    torch.testing.assert_close(model.transform(model.inverse(z, y), y)[0], z, rtol=0, atol=1e-9)


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", [(1, 4, 4), (3, 4, 4), (1, 5, 3), (1, 8, 4), (3, 1, 1)])
def test_log_det_is_that_of_the_full_jacobian(shape: tuple[int, ...], num_classes: int | None) -> None:
    model = flow(shape, num_classes, spread=0.2).double()
    h, y = torch.randn(2, *shape, dtype=torch.float64), some_classes(num_classes, 2)
    _, log_det = model.transform(h, y)
    assert (log_det.abs() > 0.05).all()
    for i in range(2):
        y_i = None if y is None else y[i : i + 1]
        jacobian = torch.autograd.functional.jacobian(lambda v, y=y_i: model.transform(v[None], y)[0][0], h[i])
        full = torch.linalg.slogdet(jacobian.view(model.num_dims, model.num_dims)).logabsdet
        torch.testing.assert_close(log_det[i], full, rtol=0, atol=1e-9)


def test_every_value_depends_on_values_near_and_far() -> None:
    model = flow((1, 8, 8), spread=0.2, num_couplings=3).double()
    h = torch.randn(1, 8, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: model.transform(v[None])[0][0], h).view(64, 64)
    moved = jacobian.abs() > 0
    assert moved.any(0).all()
    # The finest scale mixes neighbourhoods; the last one sees the whole image.
    assert moved[-16:].all()


@pytest.mark.parametrize("training", [True, False])
def test_an_example_does_not_depend_on_its_batch(training: bool) -> None:
    model = flow((1, 8, 8)).double().train(training)
    h = torch.randn(5, 1, 8, 8, dtype=torch.float64)
    z, log_det = model.transform(h)
    for i in range(5):
        z_i, log_det_i = model.transform(h[i : i + 1])
        torch.testing.assert_close(z_i[0], z[i])
        torch.testing.assert_close(log_det_i[0], log_det[i])
    z_other, log_det_other = model.train(not training).transform(h)
    assert torch.equal(z_other, z)
    assert torch.equal(log_det_other, log_det)


def every_image(levels: int) -> Tensor:
    """All images of shape (1, 1, 2)."""
    return torch.tensor(list(itertools.product(range(levels), repeat=2))).view(-1, 1, 1, 2) / (levels - 1)


def probabilities(model: RealNVP, images: Tensor, draws: int) -> Tensor:
    """Of each image: the mean over the dequantization noise, which ``log_prob`` draws, of the density in its bin."""
    with torch.no_grad():
        return model.log_prob(images.repeat_interleave(draws, 0)).exp().view(len(images), draws).mean(1)


@pytest.mark.parametrize("alpha", [1e-3, None, 0.05])
def test_the_probabilities_of_all_images_sum_to_the_mass_of_the_unit_square(alpha: float | None) -> None:
    model = flow((1, 1, 2), spread=0.2, levels=4, alpha=alpha)
    total = probabilities(model, every_image(4), draws=5000).sum()
    # The rest of the mass is on logits beyond those of 0 and 1.
    h = model.inverse(torch.randn(40_000, 2))
    ends = torch.logit(torch.tensor(model.alpha))
    inside = (h.abs() < -ends).flatten(1).all(1).float().mean()
    assert total <= 1.02
    torch.testing.assert_close(total, inside, rtol=0, atol=0.02)
    assert inside > 0.9


def test_samples_have_the_frequencies_that_log_prob_says() -> None:
    model = flow((1, 1, 2), spread=0.2, levels=4)
    images = every_image(4)
    expected = probabilities(model, images, draws=5000)
    x = model.sample(40_000)
    index = (x * 3).round().long().flatten(1)
    counts = torch.bincount(4 * index[:, 0] + index[:, 1], minlength=16) / len(x)
    assert (expected.max() - expected.min()) > 0.02
    assert (counts - expected).abs().sum() / 2 < 0.02  # total variation


@pytest.mark.parametrize("num_classes", [None, 3])
@pytest.mark.parametrize("shape", SHAPES)
def test_encode_decode_and_sample(shape: tuple[int, ...], num_classes: int | None) -> None:
    model = flow(shape, num_classes, levels=17)
    assert isinstance(model, LatentModel)
    x, y = torch.randint(17, (4, *shape)) / 16, some_classes(num_classes, 4)
    z = model.encode(x, y)
    assert z.shape == (4, model.num_dims)
    decoded = model.decode(z, y)
    torch.testing.assert_close(decoded, (16 * x + 0.5) / 17, rtol=0, atol=1e-4)  # the middle of the bin
    torch.testing.assert_close(quantize(decoded, 17), x)
    samples = model.sample(5)
    assert samples.shape == (5, *shape)
    torch.testing.assert_close(samples * 16, (samples * 16).round())
    assert samples.min() >= 0
    assert samples.max() <= 1
    assert model.log_prob(samples, some_classes(num_classes, 5)).isfinite().all()


def test_a_sample_depends_on_its_own_generator_alone() -> None:
    model = flow((1, 8, 8), 3).double()
    together = model.sample(6, generator=generators(1, range(6)))
    apart = torch.cat([model.sample(2, generator=generators(1, (i, i + 1))) for i in (0, 2, 4)])
    torch.testing.assert_close(together, apart)
    assert not torch.equal(together[0], together[1])


def test_a_temperature_near_zero_decodes_the_origin() -> None:
    model = flow((1, 8, 8))
    origin = quantize(model.decode(torch.zeros(1, 64)), model.levels)
    cold = model.sample(3, sampling=model.Sampling(temperature=1e-12))
    assert torch.equal(cold, origin.expand(3, -1, -1, -1))


def test_a_class_changes_the_likelihood_and_must_be_given() -> None:
    model = flow((1, 8, 8), 3)
    h = torch.randn(1, 1, 8, 8)
    log_dets = torch.stack([model.transform(h, torch.tensor([k]))[1][0] for k in range(3)])
    assert len(log_dets.unique()) == 3
    for method, argument in ((model.log_prob, torch.zeros(1, 1, 8, 8)), (model.decode, torch.zeros(1, 64))):
        with pytest.raises(InputError, match="give the classes y"):
            method(argument)


def test_every_parameter_learns() -> None:
    model = flow((1, 8, 8), 3)
    model.loss(torch.rand(6, 1, 8, 8), torch.arange(6) % 3)["loss"].backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name
        assert parameter.grad.abs().max() > 0, name


def test_training_finds_that_pixels_agree() -> None:
    # Black or white as a whole: 1/16 bits/dim, where pixels on their own cost 1.
    model = RealNVP((1, 4, 4), levels=2, width=16, num_couplings=2)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(100):
        x = torch.randint(2, (64, 1, 1, 1)).float().expand(-1, 1, 4, 4)
        loss = model.loss(x)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    assert loss < 0.7


def test_bfloat16_networks_leave_the_likelihood_in_float32() -> None:
    model = flow((1, 8, 8))
    h = torch.randn(4, 1, 8, 8)
    z, log_det = model.transform(h)
    with torch.autocast("cpu", torch.bfloat16):
        z_16, log_det_16 = model.transform(h)
        back = model.inverse(z_16)
    assert z_16.dtype == log_det_16.dtype == torch.float32
    assert not torch.equal(z_16, z)
    torch.testing.assert_close(z_16, z, rtol=0.02, atol=0.05)
    torch.testing.assert_close(log_det_16, log_det, rtol=0.02, atol=0.2)
    torch.testing.assert_close(back, h, rtol=0, atol=0.05)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"shape": (4,)}, "images"),
        ({"shape": (1, 1, 1)}, "two values"),
        ({"levels": 1}, "levels"),
        ({"alpha": 0.0}, "alpha"),
        ({"alpha": 0.5}, "alpha"),
        ({"width": 0}, "width"),
        ({"num_couplings": 0}, "num_couplings"),
    ],
)
def test_bad_options_are_refused(options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        RealNVP(**{"shape": (1, 8, 8), **options})
