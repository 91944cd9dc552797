"""Augmentation of real and generated images for the discriminator, so that it cannot memorize a small dataset.

Every augmentation is twice differentiable: the generator learns through it, and so does the R1 penalty.
"""

from abc import ABC, abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError

GREY = 0.5  # corresponds to 0 for images in [-1, 1]


class Augmentation(nn.Module, ABC):
    """A random transformation of images ``(B, C, H, W)`` in [0, 1], drawn independently for each image."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    def prepare(self, images_seen: int) -> None:
        """Update strengths that follow a schedule; called before each batch of the discriminator."""

    def update(self, certainty: Tensor) -> None:
        """Adapt the strength to the discriminator; called after each batch that it has learned from.

        Args:
            certainty: discriminator's logits of the augmented real images, ``(B,)``, positive if it classifies them
                correctly; all images that it judges together have the same logit (PacGAN). If the loss gives the sign
                of a logit no meaning, differences between the logits of real and generated images.
        """

    def figures(self) -> dict[str, Tensor]:
        """Return scalars to log after each step of the discriminator, by name."""
        return {}


class DiffAugment(Augmentation):
    """DiffAugment: Differentiable Augmentation for Data-Efficient GAN Training (arXiv:2006.10738).

    Args:
        policy: names of the transformations to apply, in order: ``color`` (brightness, saturation, contrast),
            ``translation`` (by up to an eighth of the side, filled with grey) and ``cutout`` (a grey square of half the
            side, which may extend beyond the border).
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
        x = x + (brightness - 0.5) / 2  # half the paper's shift, because the paper's images are in [-1, 1]
        grey = x.mean(1, keepdim=True)
        x = grey + (x - grey) * 2 * saturation
        mean = x.mean((1, 2, 3), keepdim=True)
        return mean + (x - mean) * (contrast + 0.5)

    def _translation(self, x: Tensor) -> Tensor:
        B, _, H, W = x.shape
        limits = [(side + 4) // 8 for side in (H, W)]
        down, right = (self._within(-limit, limit, B, x.device) for limit in limits)
        padded = F.pad(x, (1, 1, 1, 1), value=GREY)
        i = (torch.arange(H, device=x.device) + 1 + down).clamp(0, H + 1)  # (B, H); indices outside give the grey pad
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
    """Gather rows ``(B, H)`` and columns ``(B, W)`` of each image."""
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)
