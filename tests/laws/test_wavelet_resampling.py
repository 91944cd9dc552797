"""Resampling with wavelet filters: the filter's own laws, and images against plainer ways to transform them."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.models.gan.augment_pipe import resample
from genlab.models.gan.wavelet_resampling import SYM6, resample_filtered

FILTER = torch.tensor(SYM6, dtype=torch.double)


def affine(*rows: list[float]) -> Tensor:
    return torch.tensor([rows], dtype=torch.double)


def turned(angle: float, scale: float = 1.0, right: float = 0.0, down: float = 0.0) -> Tensor:
    c, s = scale * math.cos(angle), scale * math.sin(angle)
    return affine([c, -s, right], [s, c, down])


def test_the_filter_is_the_low_pass_filter_of_an_orthonormal_wavelet_with_six_vanishing_moments() -> None:
    assert float(FILTER.sum()) == pytest.approx(math.sqrt(2), abs=1e-10)
    for shift in range(0, 12, 2):
        product = float(FILTER[shift:] @ FILTER[: 12 - shift])
        assert product == pytest.approx(float(shift == 0), abs=1e-10)
    signs = (-1.0) ** torch.arange(12)
    for moment in range(6):
        assert float((signs * torch.arange(12.0) ** moment * FILTER).sum()) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("size", [(9, 14), (1, 6), (2, 3), (32, 32)])
def test_an_image_that_is_not_transformed_stays_as_it_is(size: tuple[int, int]) -> None:
    x = torch.rand(2, 3, *size).double()
    torch.testing.assert_close(resample_filtered(x, turned(0).expand(2, 2, 3)), x)


def test_whole_pixels_are_moved_exactly_and_mirrored_without_the_border() -> None:
    x = torch.rand(1, 2, 6, 8).double()
    moved = resample_filtered(x, turned(0, right=2, down=-1))  # reads two pixels further right and one further up
    torch.testing.assert_close(moved[..., 1:, :6], x[..., :5, 2:])
    torch.testing.assert_close(moved[..., 1:, 6], x[..., :5, 6])
    torch.testing.assert_close(moved[..., 0, :6], x[..., 1, 2:])


@pytest.mark.parametrize("matrix", [turned(0.4, 0.8, 0.3, -1.1), turned(-2.0, 0.6, 0.7, 0.25)])
def test_it_is_doubling_reading_and_halving(matrix: Tensor) -> None:
    """Written out: zeros between the mirrored image's pixels, the filter, bilinear reading, the mirrored filter."""
    H, W = 11, 8
    x = torch.rand(1, 1, H, W).double()
    wide = F.pad(x, (W - 1, W - 1, H - 1, H - 1), mode="reflect")
    spread = torch.zeros(1, 1, 2 * wide.shape[2], 2 * wide.shape[3]).double()
    spread[..., ::2, ::2] = wide
    square = torch.outer(FILTER, FILTER)[None, None]
    fine = 2 * F.conv2d(F.pad(spread, (6, 5, 6, 5)), square.flip(2, 3))
    grid = torch.zeros(2 * H + 10, 2 * W + 10).double()
    for row in range(2 * H + 10):
        for column in range(2 * W + 10):
            right, down = (column - 5) / 2 - (W - 1) / 2, (row - 5) / 2 - (H - 1) / 2
            to_right, to_down = (matrix[0] @ torch.tensor([right, down, 1]).double()).tolist()
            i, j = 2 * (to_down + (H - 1) / 2 + H - 1), 2 * (to_right + (W - 1) / 2 + W - 1)
            a, b = i - math.floor(i), j - math.floor(j)
            four = fine[0, 0, math.floor(i) :, math.floor(j) :][:2, :2]
            grid[row, column] = torch.tensor([1 - a, a]).double() @ four @ torch.tensor([1 - b, b]).double()
    halved = F.conv2d(grid[None, None], square / 2, stride=2)
    torch.testing.assert_close(resample_filtered(x, matrix), halved)


def test_fine_detail_survives_that_bilinear_resampling_blurs() -> None:
    """A wave of three pixels, shifted by half a pixel: the truth is known."""
    at = torch.arange(24).double()
    wave = torch.sin(2 * math.pi * at / 3).expand(1, 1, 24, 24)
    truth = torch.sin(2 * math.pi * (at + 0.5) / 3)[4:20]
    filtered = resample_filtered(wave, turned(0, right=0.5))[0, 0, 12, 4:20]
    bilinear = resample(wave, affine([1, 0, 1 / 24], [0, 1, 0]))[0, 0, 12, 4:20]
    errors = [float((found - truth).abs().max()) for found in (filtered, bilinear)]
    assert errors[0] < errors[1] / 2, errors


def test_each_image_is_transformed_by_itself() -> None:
    x = torch.rand(3, 1, 8, 8).double()
    matrices = torch.cat([turned(0.3), turned(0, 1.5), turned(1, right=2)])
    apart = [resample_filtered(x[i : i + 1], matrices[i : i + 1]) for i in range(3)]
    torch.testing.assert_close(resample_filtered(x, matrices), torch.cat(apart))


def test_it_can_be_differentiated_twice() -> None:
    x = torch.rand(1, 1, 4, 5, dtype=torch.double, requires_grad=True)
    matrix = turned(0.3, 1.1, 0.2)
    assert torch.autograd.gradcheck(lambda x: resample_filtered(x, matrix), x)
    assert torch.autograd.gradgradcheck(lambda x: resample_filtered(x, matrix) ** 2, x)
