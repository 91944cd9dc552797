"""An image as the sequence of its values in raster order, the channels of a pixel one after the other."""

from torch import Tensor


def to_sequence(x: Tensor) -> Tensor:
    """``(..., C, H, W)`` to ``(..., D)``, D = H W C."""
    return x.movedim(-3, -1).flatten(-3)


def to_image(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``(..., D)`` to ``(..., C, H, W)`` of ``shape``."""
    C, H, W = shape
    return values.unflatten(-1, (H, W, C)).movedim(-1, -3).contiguous()
