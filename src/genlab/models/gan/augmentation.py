"""What D sees instead of the images, real and generated alike, so that it cannot learn few images by heart.

Everything is differentiable, for G learns through it, and twice so, for R1 does, too.
"""

import math
from abc import ABC, abstractmethod

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError

GREY = 0.5  # the 0 of images from -1 to 1


class Augmentation(nn.Module, ABC):
    """Images ``(B, C, H, W)`` in [0, 1] to others of that shape, each by a draw of its own."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    def update(self, on_real: Tensor) -> None:
        """D's logits of augmented real images, after each of its steps."""


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


class AdaptiveAugmentation(Augmentation):
    """Training Generative Adversarial Networks with Limited Data (ADA, arXiv:2006.06676).

    Flips, quarter turns, shifts, scalings, rotations, and changes of brightness, contrast, hue and saturation, each
    with probability ``p``, which rises while D is too sure of real images (``E[sign D(real)]`` above ``target``) and
    falls otherwise. The strengths are the paper's (appendix B); images are resampled bilinearly, where the paper
    filters with wavelets. ``p`` is a buffer of the training, so that a resumed run goes on with it.

    Args:
        target: of ``E[sign D(real)]``.
        images_to_full: seen while ``p`` would go from 0 to 1.
        every: steps of D between two changes of ``p``.
    """

    p: Tensor
    _signs: Tensor
    _seen: Tensor
    _steps: Tensor

    def __init__(self, target: float = 0.6, images_to_full: int = 500_000, every: int = 4) -> None:
        super().__init__()
        if images_to_full < 1 or every < 1:
            raise InputError(f"images_to_full={images_to_full}, every={every}: at least 1")
        self.target, self.images_to_full, self.every = target, images_to_full, every
        for name in ("p", "_signs", "_seen", "_steps"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, on_real: Tensor) -> None:
        self._signs += on_real.sign().sum()
        self._seen += len(on_real)
        self._steps += 1
        signs, seen = self._signs, self._seen
        if dist.is_initialized() and dist.get_world_size() > 1:
            both = torch.stack([signs, seen])
            dist.all_reduce(both)
            signs, seen = both
        # All on the device: whether p's turn has come is a factor of 0 or 1.
        turn = (self._steps >= self.every).float()
        step = (signs / seen - self.target).sign() * seen / self.images_to_full
        self.p.copy_((self.p + turn * step).clamp(0, 1))
        for buffer in (self._signs, self._seen, self._steps):
            buffer *= 1 - turn

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            return self._colors(self._geometry(x.float()))

    def _chosen(self, x: Tensor, p: Tensor | None = None) -> Tensor:
        """True with probability ``p``, ``(B,)``."""
        return torch.rand(len(x), device=x.device) < (self.p if p is None else p)

    def _geometry(self, x: Tensor) -> Tensor:
        B, _, H, W = x.shape
        device = x.device

        def where(chosen: Tensor, value: Tensor, otherwise: float) -> Tensor:
            return torch.where(chosen, value, torch.full_like(value, otherwise))

        def normal() -> Tensor:
            return torch.randn(B, device=device)

        # Where each place of the result comes from, in units of half a side around the middle.
        inverse = torch.eye(3, device=device).expand(B, 3, 3)
        flip = where(self._chosen(x) & (torch.rand(B, device=device) < 0.5), -torch.ones(B, device=device), 1.0)
        inverse = inverse @ _scaling(flip, torch.ones_like(flip))
        if H == W:
            quarters = where(self._chosen(x), torch.randint(0, 4, (B,), device=device).float(), 0.0)
            inverse = inverse @ _rotation(quarters * math.pi / 2)
        shift = [where(self._chosen(x), (torch.rand(B, device=device) * 2 - 1) * 0.125, 0.0) for _ in range(2)]
        whole = [(2 * s * side).round() / side for s, side in zip(shift, (W, H), strict=True)]
        inverse = inverse @ _translation(*whole)
        scale = where(self._chosen(x), torch.exp2(0.2 * normal()), 1.0)
        inverse = inverse @ _scaling(1 / scale, 1 / scale)
        p_rotation = 1 - (1 - self.p).clamp_min(0).sqrt()  # before or after the stretch: together p
        for after in (False, True):
            angle = where(self._chosen(x, p_rotation), (torch.rand(B, device=device) * 2 - 1) * math.pi, 0.0)
            inverse = inverse @ _rotation(angle)
            if not after:
                stretch = where(self._chosen(x), torch.exp2(0.2 * normal()), 1.0)
                inverse = inverse @ _scaling(1 / stretch, stretch)
        moved = self._chosen(x)
        inverse = inverse @ _translation(*(where(moved, 0.125 * 2 * normal(), 0.0) for _ in range(2)))
        return resample(x, inverse[:, :2])

    def _colors(self, x: Tensor) -> Tensor:
        B, C = x.shape[:2]
        device = x.device
        x = 2 * x - 1

        def factor(std: float) -> Tensor:
            drawn = torch.exp2(std * torch.randn(B, device=device))
            return torch.where(self._chosen(x), drawn, torch.ones_like(drawn)).view(B, 1, 1, 1)

        brightness = 0.2 * torch.randn(B, device=device) * self._chosen(x)
        x = (x + brightness.view(B, 1, 1, 1)) * factor(0.5)
        luma = x.mean(1, keepdim=True)
        flipped = (self._chosen(x) & (torch.rand(B, device=device) < 0.5)).view(B, 1, 1, 1)
        x = torch.where(flipped, x - 2 * luma, x)
        if C == 3:
            angle = (torch.rand(B, device=device) * 2 - 1) * math.pi * self._chosen(x)
            x = torch.einsum("bij,bjhw->bihw", _about_grey(angle), x)
            luma = x.mean(1, keepdim=True)
            x = luma + (x - luma) * factor(1.0)
        return (x + 1) / 2


def resample(x: Tensor, affine: Tensor) -> Tensor:
    """Images ``(B, C, H, W)`` read bilinearly at ``affine`` ``(B, 2, 3)`` of their places, mirrored at the edges.

    As ``F.grid_sample``, which has no second derivative.
    """
    B, C, H, W = x.shape
    x_at, y_at = F.affine_grid(affine, [B, C, H, W], align_corners=False).unbind(-1)  # (B, H, W) in [-1, 1]
    j, i = _mirrored((x_at + 1) * W / 2 - 0.5, W), _mirrored((y_at + 1) * H / 2 - 0.5, H)
    i0, j0 = i.floor(), j.floor()
    a, b = (i - i0).unsqueeze(1), (j - j0).unsqueeze(1)
    i0, j0 = i0.long(), j0.long()
    i1, j1 = (i0 + 1).clamp_max(H - 1), (j0 + 1).clamp_max(W - 1)
    flat = x.flatten(2)

    def at(i: Tensor, j: Tensor) -> Tensor:
        return flat.gather(2, (i * W + j).view(B, 1, -1).expand(B, C, -1)).view(B, C, H, W)

    return (1 - a) * ((1 - b) * at(i0, j0) + b * at(i0, j1)) + a * ((1 - b) * at(i1, j0) + b * at(i1, j1))


def _mirrored(position: Tensor, side: int) -> Tensor:
    """Into [0, side - 1], mirrored at the outer pixels' outer edges."""
    around = (position + 0.5) % (2 * side)
    return (torch.minimum(around, 2 * side - around) - 0.5).clamp(0, side - 1)


def _taken(x: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows ``(B, H)`` and columns ``(B, W)`` of each image."""
    batch = torch.arange(len(x), device=x.device)[:, None, None]
    return x.permute(0, 2, 3, 1)[batch, rows[:, :, None], columns[:, None, :]].permute(0, 3, 1, 2)


def _matrix(rows: list[list[Tensor]]) -> Tensor:
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    o, i = torch.zeros_like(x), torch.ones_like(x)
    return _matrix([[x, o, o], [o, y, o], [o, o, i]])


def _rotation(angle: Tensor) -> Tensor:
    c, s, o, i = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return _matrix([[c, -s, o], [s, c, o], [o, o, i]])


def _translation(x: Tensor, y: Tensor) -> Tensor:
    o, i = torch.zeros_like(x), torch.ones_like(x)
    return _matrix([[i, o, x], [o, i, y], [o, o, i]])


def _about_grey(angle: Tensor) -> Tensor:
    """Rotations of colour about the grey axis, ``(B, 3, 3)``: hue."""
    c, s = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    identity = torch.eye(3, device=angle.device)
    grey = torch.full((3, 3), 1 / 3, device=angle.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device) / math.sqrt(3)
    return c * identity + (1 - c) * grey + s * cross
