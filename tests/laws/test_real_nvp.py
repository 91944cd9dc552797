"""RealNVP's own squeezing, masks, scales and options; what holds for every flow is in test_flows.py."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.layers.coupling import AffineCoupling, channel_mask, checkerboard_mask, squeeze, unsqueeze
from genlab.models.flow.real_nvp import RealNVP
from support.tiny_images import every_image, probabilities

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


def test_every_value_depends_on_values_near_and_far() -> None:
    model = flow((1, 8, 8), spread=0.2, num_couplings=3).double()
    h = torch.randn(1, 8, 8, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: model.transform(v[None])[0][0], h).view(64, 64)
    moved = jacobian.abs() > 0
    assert moved.any(0).all()
    # The finest scale mixes neighbourhoods; the last one sees the whole image.
    assert moved[-16:].all()


@pytest.mark.parametrize("alpha", [1e-3, 0.05])
def test_the_probabilities_of_all_images_sum_to_the_mass_of_the_unit_square(alpha: float) -> None:
    model = flow((1, 1, 2), spread=0.2, levels=4, alpha=alpha)
    total = probabilities(model, every_image(4), draws=5000).sum()
    # The rest of the mass is on logits beyond those of 0 and 1.
    h = model.inverse(torch.randn(40_000, 2))
    ends = torch.logit(torch.tensor(model.alpha))
    inside = (h.abs() < -ends).flatten(1).all(1).float().mean()
    assert total <= 1.02
    torch.testing.assert_close(total, inside, rtol=0, atol=0.02)
    assert inside > 0.9


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
