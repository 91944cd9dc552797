"""Conversion between images and sequences of values in raster order, with the channels of a pixel adjacent."""

from torch import Tensor


def to_sequence(x: Tensor) -> Tensor:
    """Flatten images ``(..., C, H, W)`` to sequences ``(..., D)``, D = H W C."""
    return x.movedim(-3, -1).flatten(-3)


def to_image(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Reshape sequences ``(..., D)`` to images ``(..., C, H, W)`` of ``shape`` ``(C, H, W)``."""
    C, H, W = shape
    return values.unflatten(-1, (H, W, C)).movedim(-1, -3).contiguous()
