"""What D sees: each image changed by a draw of its own, twice differentiably, and p that follows D's certainty."""

import pytest
import torch

from genlab.errors import InputError
from genlab.models.gan.augment_pipe import AdaptiveAugmentation, AugmentPipe, ScheduledAugmentation, resample
from genlab.models.gan.augmentation import DiffAugment


def affine(*rows: list[float]) -> torch.Tensor:
    return torch.tensor([rows], dtype=torch.float)


def test_resampling_by_whole_pixels_moves_them_and_mirrors_the_edge() -> None:
    x = torch.rand(1, 2, 6, 6)
    torch.testing.assert_close(resample(x, affine([1, 0, 0], [0, 1, 0])), x)
    torch.testing.assert_close(resample(x, affine([-1, 0, 0], [0, 1, 0])), x.flip(3))
    torch.testing.assert_close(resample(x, affine([0, -1, 0], [1, 0, 0])), x.rot90(1, (2, 3)))
    shifted = resample(x, affine([1, 0, 2 / 6], [0, 1, 0]))  # reads one pixel further right
    torch.testing.assert_close(shifted[..., :5], x[..., 1:])
    torch.testing.assert_close(shifted[..., 5], x[..., 5])  # its own mirror image
    half = resample(x, affine([1, 0, 1 / 6], [0, 1, 0]))
    torch.testing.assert_close(half[..., :5], (x[..., :5] + x[..., 1:]) / 2)


def test_resampling_can_be_differentiated_twice() -> None:
    x = torch.rand(1, 1, 4, 5, dtype=torch.double, requires_grad=True)
    matrix = torch.tensor([[[0.9, 0.2, 0.1], [-0.3, 1.1, -0.2]]], dtype=torch.double)
    assert torch.autograd.gradcheck(lambda x: resample(x, matrix), x)
    assert torch.autograd.gradgradcheck(lambda x: resample(x, matrix) ** 2, x)


def test_adaptive_augmentation_leaves_images_alone_at_first_and_changes_all_at_p_1() -> None:
    augment = AdaptiveAugmentation()
    x = torch.rand(32, 3, 16, 16)
    torch.testing.assert_close(augment(x), x, atol=1e-5, rtol=1e-5)
    augment.p.fill_(1.0)
    out = augment(x)
    assert out.shape == x.shape
    assert ((out - x).abs().mean((1, 2, 3)) > 0.01).all()
    same = augment(x[:1].expand(32, 3, 16, 16))
    assert same.std(0).mean() > 0.05  # a draw for each
    augment.p.fill_(0.1)
    alike = (augment(x) - x).abs().amax((1, 2, 3)) < 1e-3
    # Of some fifteen changes with a probability of 0.1 each (flips half of that): few images have none.
    assert 0 < alike.sum() < 24
    assert augment(torch.rand(4, 1, 9, 14)).shape == (4, 1, 9, 14)


@pytest.mark.parametrize("shape", [(3, 12, 12), (1, 8, 14)])
def test_flips_turns_and_shifts_move_whole_pixels(shape: tuple[int, ...]) -> None:
    class Blit(AugmentPipe):
        def _geometry(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(3).expand(len(x), 3, 3)

    pipe = Blit(colors=0.0)
    pipe.p.fill_(1.0)
    x = torch.rand(shape).expand(200, *shape)
    out = pipe(x)
    nearest = (out.flatten(1)[:, :, None] - x[0].flatten()).abs().amin(2)
    assert nearest.max() < 1e-5
    assert len({tuple((20 * image).round().int().flatten().tolist()) for image in out}) > 20


def test_a_shift_is_of_both_directions_or_none() -> None:
    pipe = AugmentPipe()
    pipe.p.fill_(0.5)
    x = torch.zeros(4000, 1, 64, 64)
    for matrix in (pipe._blit(x), pipe._geometry(x)):
        still = (matrix[:, :2, 2] == 0).all(1).float().mean()
        assert 0.45 < still < 0.55


def test_a_turn_keeps_shapes_in_images_that_are_not_square() -> None:
    class Turn(AugmentPipe):
        def _blit(self, x: torch.Tensor) -> torch.Tensor:
            return torch.eye(3).expand(len(x), 3, 3)

        def _geometry(self, x: torch.Tensor) -> torch.Tensor:
            return torch.tensor([[0.0, 1, 0], [-1, 0, 0], [0, 0, 1]]).expand(len(x), 3, 3)

    x = torch.zeros(1, 1, 12, 24)
    x[..., 5:7, 8:16] = 1  # a bar of 2 by 8 in the middle
    upright = torch.zeros(1, 1, 12, 24)
    upright[..., 2:10, 11:13] = 1
    turned = Turn(colors=0.0)(x)[..., 6:18]  # beyond are mirror images
    torch.testing.assert_close(turned, upright[..., 6:18], atol=1e-5, rtol=0)


def test_cutout_is_a_grey_rectangle_of_half_the_sides() -> None:
    class Cut(AugmentPipe):
        def _moved(self, x: torch.Tensor) -> torch.Tensor:
            return x

    pipe = Cut(colors=0.0, cutout=0.5)
    pipe.p.fill_(0.8)
    cut = (pipe(torch.ones(2000, 3, 16, 10)) == 0.5).all(1)  # (B, H, W)
    happened = cut.any((1, 2))
    assert 0.35 < happened.float().mean() < 0.45
    cut = cut[happened]
    assert torch.equal(cut, cut.any(2, keepdim=True) & cut.any(1, keepdim=True))
    assert set(cut.any(2).sum(1).tolist()) == {4, 5, 6, 7, 8}
    assert {3, 4, 5} <= set(cut.any(1).sum(1).tolist()) <= {2, 3, 4, 5}
    assert cut.any(0).all()


def test_a_scheduled_p_rises_with_the_images() -> None:
    augment = ScheduledAugmentation(final_p=0.4, ramp_images=1000)
    for images, p in ((0, 0.0), (250, 0.4 * (1 - 0.5**0.5) / 2), (500, 0.2), (1000, 0.4), (5000, 0.4)):
        augment.prepare(images)
        assert float(augment.p) == pytest.approx(p, abs=1e-6)
    x = torch.rand(8, 3, 8, 8)
    augment.prepare(0)
    torch.testing.assert_close(augment(x), x, atol=1e-5, rtol=1e-5)
    for wrong in ({"final_p": 1.5}, {"ramp_images": 0}, {"cutout": -1.0}):
        with pytest.raises(InputError, match=next(iter(wrong))):
            ScheduledAugmentation(**wrong)


@pytest.mark.parametrize("make", [AdaptiveAugmentation, ScheduledAugmentation])
def test_filtered_augmentations_leave_images_alone_at_first_and_change_all_at_p_1(make: type[AugmentPipe]) -> None:
    augment = make(colors=0.0, cutout=0.0, filtered=True)  # type: ignore[call-arg]
    x = torch.rand(8, 3, 12, 12)
    torch.testing.assert_close(augment(x), x, atol=1e-5, rtol=1e-5)
    plain = make(colors=0.0, cutout=0.0)  # type: ignore[call-arg]
    # The same draws, of images without detail, are the same images but for their borders.
    at = torch.linspace(0, 3.14159, 24)
    smooth = (at.cos()[:, None] * at.cos() / 2 + 0.5).expand(16, 1, 24, 24)
    drawn = []
    for pipe in (augment, plain):
        pipe.p.fill_(1.0)
        torch.manual_seed(3)
        drawn.append(pipe(smooth)[..., 4:-4, 4:-4])
    assert (drawn[0] - smooth[..., 4:-4, 4:-4]).abs().amax((1, 2, 3)).gt(0.05).all()
    assert (drawn[0] - drawn[1]).abs().mean() < 0.02


@pytest.mark.parametrize(
    "augment", [AdaptiveAugmentation(), AdaptiveAugmentation(filtered=True), ScheduledAugmentation(), DiffAugment()]
)
def test_a_penalty_on_gradients_goes_through(augment: torch.nn.Module) -> None:
    for buffer in augment.buffers():
        buffer.fill_(0.5)
    weight = torch.randn(3 * 8 * 8, requires_grad=True)
    x = torch.rand(4, 3, 8, 8, requires_grad=True)
    (gradient,) = torch.autograd.grad((augment(x).flatten(1) @ weight).tanh().sum(), x, create_graph=True)
    gradient.square().sum().backward()
    assert weight.grad is not None
    assert weight.grad.abs().sum() > 0


def test_p_follows_the_sign_of_ds_logits() -> None:
    augment = AdaptiveAugmentation(target=0.6, images_to_full=400, every=2)
    sure = torch.tensor([2.0] * 9 + [-1.0])  # E[sign] = 0.8
    augment.update(sure)
    assert augment.p == 0
    augment.update(sure)
    torch.testing.assert_close(augment.p, torch.tensor(20 / 400))
    for _ in range(2):
        augment.update(-sure)
    assert augment.p == 0
    for _ in range(2):
        augment.update(-sure)
    assert augment.p == 0  # never below
    for _ in range(100):
        augment.update(sure)
    assert augment.p == 1


def test_diffaugments_steps() -> None:
    x = torch.rand(500, 3, 16, 16) * 0.5 + 0.25
    coloured = DiffAugment(("color",))(x)
    # Contrast keeps an image's mean, saturation a pixel's, so that only brightness moves it, by up to a quarter.
    shift = (coloured - x).mean((1, 2, 3))
    assert shift.abs().max() <= 0.25 + 1e-4
    assert shift.std() > 0.1
    for side, most in ((16, 2), (28, 4), (9, 1)):
        black = torch.zeros(500, 3, side, side)
        cut = (DiffAugment(("cutout",))(black) == 0.5).all(1)  # of a mean grey, 0 from -1 to 1
        half = -(-side // 2)
        for sides in (1, 2):  # a square of half the side, of which as much as half may lie outside
            assert set(cut.any(sides).sum(1).tolist()) == set(range(half - half // 2, half + 1))
        assert torch.equal(cut, cut.any(2, keepdim=True) & cut.any(1, keepdim=True))
        assert torch.equal(cut.any(0), torch.ones(side, side, dtype=torch.bool))
        moved = DiffAugment(("translation",))(black)
        entered = (moved == 0.5).all((1, 3))  # (B, rows)
        shifts = entered[:, : side // 2].sum(1) - entered[:, side // 2 :].sum(1)
        assert set(shifts.tolist()) == set(range(-most, most + 1))  # an eighth of the side
    cut = DiffAugment(("cutout",))(x)
    assert torch.equal(cut[cut != 0.5], x[cut != 0.5])
    assert DiffAugment(())(x) is x


def test_a_policy_that_is_unknown_is_one_line() -> None:
    with pytest.raises(InputError, match="policy: sharpen is none of color, translation, cutout"):
        DiffAugment(("sharpen",))
