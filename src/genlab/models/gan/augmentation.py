"""What D sees instead of the images, real and generated alike, so that it cannot learn few images by heart.

Everything is differentiable, for G learns through it, and twice so, for R1 does, too.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError

GREY = 0.5  # the 0 of images from -1 to 1


class Augmentation(nn.Module, ABC):
    """Images ``(B, C, H, W)`` in [0, 1] to others of that shape, each by a draw of its own."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    def prepare(self, images_seen: int) -> None:
        """Called before each step of D, for strengths that change in training."""

    def update(self, certainty: Tensor) -> None:
        """Called after each step of D, with its logits of augmented real images, which are above 0 where it is right.

        Of a loss for which a logit's sign means nothing, they are the differences of real and generated images' logits.
        """

    def figures(self) -> dict[str, Tensor]:
        """Scalars to log after each step of D, by name."""
        return {}


class DiffAugment(Augmentation):
    """Differentiable Augmentation for Data-Efficient GAN Training (arXiv:2006.10738).

    Args:
        policy: of ``color`` (brightness, saturation, contrast), ``translation`` (by up to an eighth, grey comes in)
            and ``cutout`` (a grey square of half the side, which may reach over the edge).
    """

    def __init__(self, policy: tuple[str, ...] = ("color", "translation", "cutout")) -> None:
        super().__init__()
        known = {"color": self._color, "translation": self._translation, "cutout": self._cutout}
        if unknown := [name for name in policy if name not in known]:
            raise InputError(f"policy: {unknown[0]} is none of {', '.join(known)}")
        self.steps = [known[name] for name in policy]

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x

    def _color(self, x: Tensor) -> Tensor:
        brightness, saturation, contrast = torch.rand(3, len(x), 1, 1, 1, device=x.device)
        x = x + (brightness - 0.5) / 2  # the paper's images are in [-1, 1], twice as far apart
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * 2 * saturation
        mean = x.mean((1, 2, 3), keepdim=True)
        return mean + (x - mean) * (contrast + 0.5)

    def _translation(self, x: Tensor) -> Tensor:
        B, _, H, W = x.shape
        limits = [(side + 4) // 8 for side in (H, W)]
        down, right = (self._within(-limit, limit, B, x.device) for limit in limits)
        padded = F.pad(x, (1, 1, 1, 1), value=GREY)
        i = (torch.arange(H, device=x.device) + 1 + down).clamp(0, H + 1)  # (B, H), beyond the edge the grey border
        j = (torch.arange(W, device=x.device) + 1 + right).clamp(0, W + 1)
        return _taken(padded, i, j)

    def _cutout(self, x: Tensor) -> Tensor:
        inside = []
        for side in x.shape[2:]:
            size = (side + 1) // 2
            start = self._within(0, side - size % 2, len(x), x.device) - size // 2
            at = torch.arange(side, device=x.device)
            inside.append((at >= start) & (at < start + size))  # (B, side)
        rows, columns = inside
        return x.masked_fill((rows[:, :, None] & columns[:, None, :]).unsqueeze(1), GREY)

    @staticmethod
    def _within(low: int, high: int, num: int, device: torch.device) -> Tensor:
        return torch.randint(low, high + 1, (num, 1), device=device)


def _taken(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows ``(B, H)`` and columns ``(B, W)`` of each image."""
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
