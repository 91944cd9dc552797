"""Penalties of GANs one by one: their defaults, their limits, what is moved in images, and path lengths."""

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.models.gan.regularizers import (
    DRAGAN,
    R1,
    R2,
    Consistency,
    GeneratorRegularizer,
    GradientPenalty,
    PathLength,
    Regularizer,
    WeightClipping,
    norm,
    squared_norm,
)
from support.together import together

ONES = torch.ones(4)


def linear(slope: Tensor) -> Callable[[Tensor], Tensor]:
    """A critic with one gradient everywhere."""
    return lambda x: (x.flatten(1) * slope).sum(1)


def penalty(regularizer: Regularizer, critic: Callable[[Tensor], Tensor], real: Tensor, fake: Tensor) -> float:
    real, fake = real.clone().requires_grad_(), fake.clone().requires_grad_()
    return float(regularizer.penalty(critic, real, fake, critic(real), critic(fake)))


# -- weights -----------------------------------------------------------------------------------------------------------


def test_weights_are_the_papers_unless_they_are_given() -> None:
    """Of points under a critic of slope 3: |grad D|² = 9, (|grad D| - 1)² = 4."""
    points, critic = torch.randn(8, 2), linear(torch.tensor([3.0, 0.0]))
    expected = {R1: 0.5 * 9, R2: 0.5 * 9, GradientPenalty: 10 * 4, DRAGAN: 10 * 4}
    for kind, value in expected.items():
        assert penalty(kind(), critic, points, points) == pytest.approx(value, rel=1e-5)  # type: ignore[abstract]
        assert kind().every == 1  # type: ignore[abstract]
        assert kind(every=5).every == 5  # type: ignore[abstract]
    assert PathLength().every == 4  # lazily, as in the authors' code
    # Images are on a scale from 0 to 1 here, and from -1 to 1 in the papers: half of the slope.
    images = torch.rand(8, 1, 1, 2)
    assert penalty(R1(), critic, images, images) == pytest.approx(0.5 * 9 / 4, rel=1e-5)
    assert penalty(R1(), critic, images[:, 0], images[:, 0]) == pytest.approx(0.5 * 9, rel=1e-5)


def test_only_slopes_above_one_count_on_one_side() -> None:
    points = torch.randn(8, 2)
    for slope, two_sided, one_sided in ((0.5, 10 * 0.25, 0.0), (1.0, 0.0, 0.0), (2.0, 10.0, 10.0)):
        critic = linear(torch.tensor([0.0, slope]))
        assert penalty(GradientPenalty(), critic, points, points) == pytest.approx(two_sided, abs=1e-5)
        assert penalty(GradientPenalty(one_sided=True), critic, points, points) == pytest.approx(one_sided, abs=1e-5)


def test_a_flat_critic_has_a_penalty_and_a_direction_to_leave_it() -> None:
    """The norm's own derivative at 0 is no number."""
    points = torch.randn(8, 2, requires_grad=True)
    slope = torch.zeros(2, requires_grad=True)
    for regularizer in (GradientPenalty(), DRAGAN()):
        value = regularizer.penalty(linear(slope), points, points, points, points)
        assert float(value.detach()) == pytest.approx(10, abs=1e-3)
        (gradient,) = torch.autograd.grad(value, slope)
        assert gradient.isfinite().all()
    assert float(norm((points * 0).sum(1), points).max()) == pytest.approx(1e-6)


def test_norms_of_half_precision_are_summed_in_float32() -> None:
    x = torch.ones(2, 4096, dtype=torch.bfloat16, requires_grad=True)
    squared = squared_norm((300 * x).sum(1), x)
    assert squared.dtype == torch.float32
    torch.testing.assert_close(squared, torch.full((2,), 4096 * 300.0**2), rtol=0.01, atol=0)
    assert squared_norm(x.double().sum(1), x).dtype == torch.float32
    y = torch.ones(2, 3, dtype=torch.float64, requires_grad=True)
    assert squared_norm(y.sum(1), y).dtype == torch.float64


def test_interpolated_points_lie_between_real_and_generated_ones() -> None:
    """Anywhere between them, alike; each has a place of its own, but for those that D judges together."""
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.view(-1, 2 * x[0].numel()).square().sum(1)  # two at a time

    real, fake = torch.zeros(2000, 1, 1, 1).requires_grad_(), torch.ones(2000, 1, 1, 1).requires_grad_()
    GradientPenalty().penalty(critic, real, fake, critic(real), critic(fake))
    between = seen[-1].view(1000, 2)
    assert torch.equal(between[:, 0], between[:, 1])
    assert 0 <= between.min() < 0.01
    assert 0.99 < between.max() <= 1
    assert abs(between.mean() - 0.5) < 0.04
    assert len(between[:, 0].unique()) > 900


def test_points_around_the_data_are_off_by_less_than_half_its_deviation() -> None:
    seen = []

    def critic(x: Tensor) -> Tensor:
        seen.append(x.detach())
        return x.sum(1)

    real = (3 * torch.randn(2000, 2)).requires_grad_()
    for regularizer, scale in ((DRAGAN(), 0.5), (DRAGAN(scale=2.0), 2.0)):
        regularizer.penalty(critic, real, real, critic(real), critic(real))
        offset = (seen[-1] - real.detach()) / real.detach().std() / scale
        assert -1e-6 <= offset.min() < 0.01
        assert 0.99 < offset.max() <= 1 + 1e-6
        assert abs(offset.mean() - 0.5) < 0.03


@pytest.mark.parametrize("kind", [R1, R2])
def test_gamma_stays_without_a_schedule_and_belongs_to_no_checkpoint(kind: Any) -> None:
    regularizer = kind(gamma=2.5)
    regularizer.prepare(100)
    assert float(regularizer.gamma_now) == 2.5
    assert not regularizer.state_dict()
    for half in ({"final_gamma": 0.5}, {"decay_images": 10}):
        with pytest.raises(InputError, match="belong together"):
            kind(**half)
    towards_zero = kind(gamma=1.0, final_gamma=0.0, decay_images=4)
    found = []
    for images in range(7):
        towards_zero.prepare(images)
        found.append(float(towards_zero.gamma_now))
    assert found == pytest.approx([1, 0.8535534, 0.5, 0.1464466, 0, 0, 0], abs=1e-6)


def test_clipping_is_to_a_hundredth_unless_it_is_given() -> None:
    net = nn.Linear(3, 3)
    WeightClipping().after_step(net)
    assert max(float(p.detach().abs().max()) for p in net.parameters()) == pytest.approx(0.01)
    assert all(p.requires_grad for p in net.parameters())
    on_real = torch.ones(4, dtype=torch.float64)
    zero = WeightClipping().penalty(net, on_real, on_real, on_real, on_real)
    assert (zero.shape, float(zero), zero.dtype) == ((), 0.0, torch.float64)
    assert WeightClipping().every == 1


@pytest.mark.parametrize("every", [0, -1])
def test_less_than_every_step_is_refused(every: int) -> None:
    for kind in (R1, R2, GradientPenalty, DRAGAN, Consistency):
        with pytest.raises(InputError, match=f"every={every}: expected a number of discriminator steps"):
            kind(every=every)
    with pytest.raises(InputError, match=f"every={every}: expected a number of generator steps"):
        PathLength(every=every)
    with pytest.raises(InputError, match=f"shrink={every}: expected a divisor"):
        PathLength(shrink=every)
    assert PathLength(every=1, shrink=1).every == 1


@pytest.mark.parametrize("base", [Regularizer, GeneratorRegularizer])
def test_a_regularizer_has_to_have_a_penalty_and_nothing_more(base: Any) -> None:
    with pytest.raises(TypeError, match="abstract"):
        base()
    whole = type("Whole", (base,), {"penalty": lambda *_: torch.zeros(())})
    assert whole().every == 1


def test_consistency_alone_is_of_images() -> None:
    assert Consistency.of_images
    assert not any(kind.of_images for kind in (R1, R2, GradientPenalty, DRAGAN, WeightClipping))


# -- moved images ------------------------------------------------------------------------------------------------------


def seen_by_the_critic(regularizer: Consistency, x: Tensor) -> Tensor:
    seen = []

    def critic(images: Tensor) -> Tensor:
        seen.append(images)
        return images.flatten(1)[:, 0]

    regularizer.penalty(critic, x, x, torch.zeros(len(x)), torch.zeros(len(x)))
    return seen[0]


def variants(image: Tensor, shift: int) -> dict[tuple[bool, int, int], Tensor]:
    """All flips and shifts of an image ``(C, H, W)``, whose edge goes on beyond it."""
    _, H, W = image.shape
    found = {}
    for flip in (False, True):
        wide = F.pad((image.flip(2) if flip else image)[None], [shift] * 4, mode="replicate")[0]
        for down, right in itertools.product(range(2 * shift + 1), repeat=2):
            found[flip, down - shift, right - shift] = wide[:, down : down + H, right : right + W]
    return found


@pytest.mark.parametrize(
    ("size", "given", "shift"),
    [
        *[((16, 24), 4, 2), ((24, 16), 4, 2), ((32, 32), 4, 4), ((40, 48), 4, 4), ((32, 40), 1, 1)],
        *[((8, 8), 4, 1), ((7, 16), 4, 0), ((16, 7), 4, 0), ((32, 32), 0, 0)],
    ],
)
def test_images_are_flipped_and_shifted_each_by_itself(size: tuple[int, int], given: int, shift: int) -> None:
    image = torch.rand(2, *size)
    num = 40 * (2 * shift + 1) ** 2
    moved = seen_by_the_critic(Consistency(shift=given), image.expand(num, 2, *size))
    assert moved.shape == (num, 2, *size)
    found = Counter(one.numpy().tobytes() for one in moved.contiguous())
    counts = [found.pop(variant.contiguous().numpy().tobytes(), 0) for variant in variants(image, shift).values()]
    assert not found
    assert min(counts) >= 4  # of 20 that are expected of each
    assert max(counts) <= 45


def test_the_default_shift_is_of_four_pixels() -> None:
    image = torch.rand(1, 64, 64)
    moved = seen_by_the_critic(Consistency(), image.expand(400, 1, 64, 64))
    found = {one.numpy().tobytes() for one in moved.contiguous()}
    known = {variant.contiguous().numpy().tobytes(): at for at, variant in variants(image, 4).items()}
    rows = {known[one][1] for one in found}
    assert rows == set(range(-4, 5))


def test_real_and_generated_images_have_weights_of_their_own() -> None:
    """Of images of one grey level each, which no move changes."""
    levels = torch.arange(4.0).view(4, 1, 1, 1)
    real, fake = levels.expand(4, 1, 16, 16), (10 + levels).expand(4, 1, 16, 16)

    def critic(x: Tensor) -> Tensor:
        return 2 * x.mean((1, 2, 3))

    on_real, on_fake = critic(real) + 3, critic(fake) + torch.tensor([1.0, 2, 3, 4])
    for regularizer, expected in (
        (Consistency(), 10 * 9.0),
        (Consistency(weight=2.0), 2 * 9.0),
        (Consistency(weight=2.0, generated=5.0), 2 * 9.0 + 5 * 30 / 4),
        (Consistency(weight=0.0, generated=0.5), 0.5 * 30 / 4),
    ):
        value = regularizer.penalty(critic, real, fake, on_real, on_fake)
        assert float(value) == pytest.approx(expected, rel=1e-5)


# -- path lengths ------------------------------------------------------------------------------------------------------


class Linear(nn.Module):
    """A generator whose images are ``factor`` times a fixed map of the mean of the layers' w."""

    num_layers = 3

    def __init__(self, factor: float) -> None:
        super().__init__()
        self.factor = nn.Parameter(torch.tensor(factor))
        self.seen: list[Tensor] = []

    def mapping(self, z: Tensor, y: Tensor) -> Tensor:
        self.seen.append(y)
        return z.requires_grad_()

    def synthesis(self, ws: Tensor) -> Tensor:
        assert ws.shape[1] == 3
        map_ = torch.eye(4).repeat(1, 6).view(4, 1, 4, 6)
        return self.factor * torch.einsum("bd,dchw->bchw", ws.mean(1), map_)

    def forward(self) -> None: ...


Linear.synthesis.num_layers = Linear.num_layers  # type: ignore[attr-defined]


def gan(factor: float) -> Any:
    return SimpleNamespace(generator=Linear(factor), latent_dim=4)


def length(factor: float, num: int) -> Tensor:
    """Of the same noise: the derivative of sum(images noise) is factor J^T noise / 3 in each of the three layers."""
    noise = torch.randn(num, 1, 4, 6) / (4 * 6) ** 0.5
    through = noise.flatten(1) @ torch.eye(4).repeat(1, 6).view(4, 24).T
    return 2 * factor * through.norm(dim=1) / 3


@pytest.mark.parametrize(("batch", "shrink", "num"), [(6, 2, 3), (5, 2, 3), (7, 3, 3), (4, 1, 4), (3, 8, 1)])
def test_a_part_of_the_batch_is_enough_for_path_lengths(batch: int, shrink: int, num: int) -> None:
    model, regularizer = gan(0.7), PathLength(weight=3.0, decay=0.75, shrink=shrink)
    regularizer.mean.fill_(2.0)
    y = torch.arange(batch)
    torch.manual_seed(1)
    value = regularizer.penalty(model, torch.zeros(batch, 1, 4, 6), y)
    torch.manual_seed(1)
    torch.randn(batch, 4)  # the latents
    lengths = length(0.7, num)
    mean = 0.75 * 2.0 + 0.25 * lengths.mean()
    torch.testing.assert_close(regularizer.mean, mean, rtol=1e-5, atol=0)
    torch.testing.assert_close(value.detach(), 3 * (lengths - mean).square().mean(), rtol=1e-4, atol=1e-7)
    assert torch.equal(model.generator.seen[0], y[:num])
    # The length is proportional to the factor; the running mean is no part of what is learned.
    (gradient,) = torch.autograd.grad(value, model.generator.factor)
    torch.testing.assert_close(gradient, (6 * (lengths - mean) * lengths).mean() / 0.7, rtol=1e-4, atol=1e-6)
    assert not regularizer.mean.requires_grad
    assert list(regularizer.state_dict()) == ["mean"]


def test_path_lengths_have_the_papers_defaults() -> None:
    model, regularizer = gan(1.0), PathLength()
    assert float(regularizer.mean) == 0
    torch.manual_seed(1)
    value = regularizer.penalty(model, torch.zeros(4, 1, 4, 6), torch.zeros(4))
    torch.manual_seed(1)
    torch.randn(4, 4)
    lengths = length(1.0, 2)
    torch.testing.assert_close(regularizer.mean, 0.01 * lengths.mean(), rtol=1e-4, atol=0)
    torch.testing.assert_close(value.detach(), 2 * (lengths - regularizer.mean).square().mean(), rtol=1e-4, atol=0)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_the_mean_length_is_that_of_all_processes(world_size: int, tmp_path: Path) -> None:
    def mean(rank: int) -> float:
        torch.manual_seed(rank)
        regularizer = PathLength(decay=0.0)
        regularizer.penalty(gan(1.0 + rank), torch.zeros(4, 1, 4, 6), torch.zeros(4))
        return float(regularizer.mean)

    lengths = []
    for rank in range(world_size):
        torch.manual_seed(rank)
        torch.randn(4, 4)
        lengths.append(float(length(1.0 + rank, 2).mean()))
    expected = sum(lengths) / world_size
    assert together(world_size, mean, tmp_path) == pytest.approx([expected] * world_size, rel=1e-5)


@pytest.mark.parametrize("parts", [(), ("mapping",), ("synthesis",), None])
def test_a_generator_without_styles_is_refused(parts: Any) -> None:
    model = SimpleNamespace() if parts is None else SimpleNamespace(generator=SimpleNamespace(**dict.fromkeys(parts)))
    with pytest.raises(InputError, match="path_length needs a generator with styles w"):
        PathLength().check(model)  # type: ignore[arg-type]
    both = SimpleNamespace(generator=SimpleNamespace(mapping=0, synthesis=0))
    PathLength().check(both)  # type: ignore[arg-type]


@pytest.mark.parametrize("layer", [nn.BatchNorm1d(2), nn.BatchNorm2d(2), nn.SyncBatchNorm(2), nn.GroupNorm(1, 2), None])
def test_a_gradient_of_each_example_alone_is_refused_where_a_batch_is_normalized(layer: nn.Module | None) -> None:
    net = nn.Sequential(nn.Linear(2, 2), *([] if layer is None else [nn.Sequential(layer)]), nn.Linear(2, 1))
    model: Any = SimpleNamespace(discriminator=net)
    mixes = layer is not None and not isinstance(layer, nn.GroupNorm)
    for kind in (R1, R2, GradientPenalty, DRAGAN):
        if mixes:
            with pytest.raises(InputError, match=f"{kind.__name__} needs the gradient of each example alone"):
                kind().check(model)
        else:
            kind().check(model)
    Consistency().check(model)
    WeightClipping().check(model)
    assert not Regularizer.of_single_examples  # whoever adds one says that it is
