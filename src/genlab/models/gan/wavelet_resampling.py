"""Resampling of images at twice their resolution, between two passes of a wavelet filter: arXiv:2006.06676, appendix B.

Bilinear resampling blurs an image at every transformation, which the discriminator sees and the generator may imitate.
Here the image is doubled with the low-pass filter of the wavelet sym6, read bilinearly, and halved with the mirrored
filter. Both passes together have no effect on an image that is not transformed, because shifts of the filter by an even
number of places are orthonormal. Everything is twice differentiable.
"""

import functools
import math

import torch
from torch import Tensor

# Low-pass filter of the symlet with six vanishing moments (Daubechies, Ten Lectures on Wavelets, chapter 8): the sum is
# the root of 2, and the sum of squares 1.
SYM6 = (
    0.015404109327027373,
    0.0034907120842174702,
    -0.11799011114819057,
    -0.048311742585633,
    0.4910559419267466,
    0.787641141030194,
    0.3379294217276218,
    -0.07263752278646252,
    -0.021060292512300564,
    0.04472490177066578,
    0.0017677118642428036,
    -0.007800708325034148,
)


def resample_filtered(x: Tensor, inverse: Tensor) -> Tensor:
    """Resample images under affine transformations, with filters; beyond its borders an image is mirrored.

    Args:
        x: images, ``(B, C, H, W)``.
        inverse: matrices ``(B, 2, 3)`` from positions (right, down) in the result to positions in the image, in pixels
            from the centre.

    Returns:
        Transformed images, ``(B, C, H, W)``.
    """
    B, C, H, W = x.shape
    # One period of the mirrored images at twice the resolution: place 2 m lies on pixel m.
    fine = _doubling(H, x.dtype, x.device).T @ x @ _doubling(W, x.dtype, x.device)
    # Places of the doubled result that the halving reads, in pixels from the centre: five more before and after.
    rows, columns = ((torch.arange(-5, 2 * side + 5, device=x.device, dtype=x.dtype) - side + 1) / 2 for side in (H, W))
    right, down = columns.expand(len(rows), -1), rows[:, None].expand(-1, len(columns))
    at = torch.stack([right, down, torch.ones_like(right)]).flatten(1)  # (3, N)
    to_right, to_down = (inverse.to(x.dtype) @ at).unbind(1)  # (B, N), pixels from the centre of the image
    read = _read(fine, 2 * to_down + H - 1, 2 * to_right + W - 1).view(B, C, len(rows), len(columns))
    return _halving(H, x.dtype, x.device).T @ read @ _halving(W, x.dtype, x.device)


# The filters are applied as matrices, because convolutions of one channel are slow.


@functools.lru_cache(maxsize=16)
def _doubling(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Build the matrix ``(side, 2 period)`` that doubles a mirrored line, where ``period = max(1, 2 side - 2)``.

    Place n of the result is the sum over j of ``sqrt(2) f_j`` times pixel m, with ``2 m = n + 5 - j``.
    """
    period = max(1, 2 * side - 2)
    matrix = torch.zeros(side, 2 * period, dtype=torch.double)
    for place in range(2 * period):
        for j, entry in enumerate(SYM6):
            if (place + 5 - j) % 2 == 0:
                pixel = (place + 5 - j) // 2 % period
                matrix[pixel if pixel < side else period - pixel, place] += math.sqrt(2) * entry
    return matrix.to(device, dtype)


@functools.lru_cache(maxsize=16)
def _halving(side: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Build the matrix ``(2 side + 10, side)`` that halves a line with five places more at each end."""
    matrix = torch.zeros(2 * side + 10, side, dtype=torch.double)
    for pixel in range(side):
        matrix[2 * pixel : 2 * pixel + len(SYM6), pixel] = torch.tensor(SYM6, dtype=torch.double) / math.sqrt(2)
    return matrix.to(device, dtype)


def _read(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Read images ``(B, C, H, W)``, which repeat in both directions, bilinearly at places ``(B, N)``: ``(B, C, N)``."""
    C, H, W = x.shape[1:]
    i0, j0 = rows.floor(), columns.floor()
    a, b = (rows - i0).unsqueeze(1), (columns - j0).unsqueeze(1)
    i0, j0 = i0.long() % H, j0.long() % W
    i1, j1 = (i0 + 1) % H, (j0 + 1) % W
    flat = x.flatten(2)

    def at(i: Tensor, j: Tensor) -> Tensor:
        return flat.gather(2, (i * W + j).unsqueeze(1).expand(-1, C, -1))

    return (1 - a) * ((1 - b) * at(i0, j0) + b * at(i0, j1)) + a * ((1 - b) * at(i1, j0) + b * at(i1, j1))
