"""RealNVP's own squeezing, masks, scales and options; what holds for every flow is in test_flows.py."""

from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.layers.coupling import AffineCoupling, channel_mask, checkerboard_mask, squeeze, unsqueeze
from genlab.layers.running_norm import EPSILON, RunningNorm
from genlab.models.flow.real_nvp import CouplingNet, RealNVP
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


def test_networks_at_full_resolution_see_single_pixels() -> None:
    def reach(patch: int) -> Tensor:
        """Places whose shift depends on one pixel."""
        net = CouplingNet(1, 4, 0, patch, None, 3, skips=False, momentum=None).double()
        for parameter in net.parameters():
            parameter.data = torch.rand_like(parameter) + 0.1
        h = torch.zeros(2, 1, 12, 12, dtype=torch.float64)
        h[1, 0, 6, 6] = 1
        shift = net(h, None)[:, 1]
        return (shift[0] != shift[1]).nonzero()

    fine, coarse = reach(1), reach(2)  # two 3x3 convolutions reach two positions far
    assert (fine.amin(0).tolist(), fine.amax(0).tolist()) == ([4, 4], [8, 8])
    assert (coarse.amin(0).tolist(), coarse.amax(0).tolist()) == ([2, 2], [11, 11])


@pytest.mark.parametrize("skips", [False, True])
def test_with_skips_the_output_hears_each_block_itself(skips: bool) -> None:
    net = CouplingNet(1, 4, 2, 1, None, 3, skips=skips, momentum=None)
    for parameter in net.parameters():
        parameter.data = torch.rand_like(parameter) + 0.1
    outputs: list[Tensor] = []
    for block in net.blocks:  # cut the way from a block to the next
        block.register_forward_pre_hook(lambda module, args: (args[0].detach(),))
        block.register_forward_hook(lambda module, args, out: outputs.append(out))
    out = net(torch.rand(1, 1, 6, 6), None).sum()
    gradients = torch.autograd.grad(out, outputs, allow_unused=True)
    assert [gradient is not None for gradient in gradients] == [skips, True]


def test_the_width_doubles_with_each_squeeze() -> None:
    model = RealNVP((1, 16, 16), width=6, widen=True)
    nets = [[c.net for c in part] for s in model.scales for part in (s.checkerboard, s.channelwise)]  # type: ignore
    nets.append([c.net for c in model.last])  # type: ignore[misc]
    assert [[net.last.in_channels for net in part] for part in nets] == [
        [6] * 3, [12] * 3, [12] * 3, [24] * 3, [24] * 4
    ]  # fmt: skip


# -- batch normalization -----------------------------------------------------------------------------------------------

MASKS = {"checkerboard": checkerboard_mask(4, 6, 1), "channels": channel_mask(5, 0), "none": None}


@pytest.mark.parametrize("name", MASKS)
def test_a_batch_normalization_normalizes_what_the_mask_leaves(name: str) -> None:
    norm = RunningNorm(5, 0.0, MASKS[name])
    h = 3 * torch.randn(16, 5, 4, 6) + 1
    out, log_det = norm(h)
    changed = norm.changed.expand(5, 4, 6).bool()
    assert torch.equal(out[:, ~changed], h[:, ~changed])
    for channel in range(5):
        if changed[channel].any():
            values = out[:, channel][:, changed[channel]]
            torch.testing.assert_close(values.mean(), torch.tensor(0.0), rtol=0, atol=1e-5)
            torch.testing.assert_close(values.std(correction=0), torch.tensor(1.0), rtol=0, atol=1e-3)
    torch.testing.assert_close(norm.inverse(out), h, rtol=0, atol=1e-5)
    # Its averages are those of the batch, and normalize other examples in evaluation, each by itself.
    norm.eval()
    torch.testing.assert_close(norm(h[:1])[0], out[:1])
    torch.testing.assert_close(norm(h[:1])[1], log_det[:1])


@pytest.mark.parametrize("name", MASKS)
def test_a_batch_normalization_s_log_det_is_that_of_the_jacobian(name: str) -> None:
    norm = RunningNorm(5, 0.5, MASKS[name]).double()
    norm(3 * torch.randn(16, 5, 4, 6, dtype=torch.float64))
    norm.eval()
    h = torch.randn(5, 4, 6, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda v: norm(v[None])[0][0], h).view(120, 120)
    log_det = norm(h[None])[1][0]
    assert abs(log_det) > 1
    torch.testing.assert_close(log_det, torch.linalg.slogdet(jacobian).logabsdet)


def test_averages_move_by_their_momentum_and_gradients_flow_through_the_batch_s_share() -> None:
    norm = RunningNorm(1, 0.75)
    h = (2 * torch.randn(500, 1, 2, 2) + 4).requires_grad_()
    norm(h)[1].sum().backward()
    torch.testing.assert_close(norm.mean, 0.25 * h.detach().mean().view(1, 1, 1))
    torch.testing.assert_close(norm.variance, 0.75 + 0.25 * h.detach().var(correction=0).view(1, 1, 1))
    # d/dh of -2000 log(v) / 2, with v = 0.75 + 0.25 variance + epsilon.
    centred = h.detach() - h.detach().mean()
    expected = -1000 / (norm.variance + EPSILON) * 0.25 * 2 * centred / 2000
    assert h.grad is not None
    torch.testing.assert_close(h.grad, expected)
    before = norm.mean.clone()
    norm.eval()(h)
    assert torch.equal(norm.mean, before)


@pytest.mark.parametrize("num_classes", [None, 3])
def test_batch_normalizations_start_from_the_data(num_classes: int | None) -> None:
    x = (torch.rand(64, 1, 8, 8) * 255).round() / 255
    y = None if num_classes is None else torch.arange(64) % num_classes
    model = RealNVP((1, 8, 8), num_classes, width=8, num_blocks=1, batch_norm=0.9).eval()
    torch.manual_seed(1)
    model.initialize(x, y)
    norms = [module for module in model.modules() if isinstance(module, RunningNorm)]
    seen: list[tuple[RunningNorm, Tensor]] = []
    for norm in norms:
        norm.register_forward_hook(
            lambda module, args, out: seen.append((module, out if isinstance(out, Tensor) else out[0]))
        )
    torch.manual_seed(1)  # the same dequantization
    model.log_prob(x, y)
    assert len(seen) == len(norms) == (4 * 3 + 4) * (1 + 3)  # after each coupling, and in its network
    for norm, out in seen:
        changed = norm.changed.expand(out.shape[1:]).bool()
        for channel in changed.flatten(1).any(1).nonzero().flatten():
            values = out[:, channel][:, changed[channel]]
            torch.testing.assert_close(values.mean(), torch.tensor(0.0), rtol=0, atol=1e-4)
            variance = norm.variance[channel, 0, 0]
            torch.testing.assert_close(values.var(correction=0), variance / (variance + EPSILON), rtol=1e-3, atol=1e-4)


def test_without_batch_normalization_nothing_is_drawn_at_the_start() -> None:
    model, x = flow((1, 8, 8)), torch.rand(64, 1, 8, 8)
    state = torch.get_rng_state()
    model.initialize(x)
    assert torch.equal(state, torch.get_rng_state())


def test_a_normalized_flow_learns_in_training_and_is_the_same_for_any_batch_afterwards() -> None:
    model = RealNVP((1, 4, 4), levels=2, width=16, num_couplings=2, patch=1, skips=True, batch_norm=0.9)
    draw = lambda: torch.randint(2, (64, 1, 1, 1)).float().expand(-1, 1, 4, 4)  # noqa: E731
    model.initialize(draw())
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(100):
        loss = model.loss(draw())["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()
    with torch.no_grad():
        assert model.loss(draw())["loss"] < 0.7
        h = torch.randn(6, 1, 4, 4)
        z, log_det = model.transform(h)
        for i in range(6):
            z_i, log_det_i = model.transform(h[i : i + 1])
            torch.testing.assert_close(z_i[0], z[i], rtol=1e-4, atol=1e-4)
            torch.testing.assert_close(log_det_i[0], log_det[i], rtol=1e-4, atol=1e-3)
        torch.testing.assert_close(model.inverse(z), h, rtol=0, atol=1e-3)


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
        ({"patch": 3}, "patch"),
        ({"second_kernel": 2}, "second_kernel"),
        ({"batch_norm": 1.0}, "batch_norm"),
    ],
)
def test_bad_options_are_refused(options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        RealNVP(**{"shape": (1, 8, 8), **options})
