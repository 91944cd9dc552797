"""What D sees: each image changed by a draw of its own, twice differentiably, and p that follows D's certainty."""

import pytest
import torch

from genlab.errors import InputError
from genlab.models.gan.augmentation import AdaptiveAugmentation, DiffAugment, resample


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


@pytest.mark.parametrize("augment", [AdaptiveAugmentation(), DiffAugment()])
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
