"""The augmentation pipeline of ADA and two ways to control its probability p.

Training Generative Adversarial Networks with Limited Data (arXiv:2006.06676). The pipeline is twice differentiable: the
generator learns through it, and so does the R1 penalty.
"""

import math

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

from genlab.errors import InputError
from genlab.models.gan.augmentation import GREY, Augmentation
from genlab.models.gan.wavelet_resampling import resample_filtered


class AugmentPipe(Augmentation):
    """Pipeline of geometric and colour transformations, each applied with probability ``p``.

    It has flips, quarter turns, shifts, scalings, rotations, and changes of brightness, contrast, hue and saturation.
    The strengths are those of the paper (appendix B).

    Args:
        colors: probability of each colour transformation, as a multiple of ``p``.
        cutout: probability of a grey rectangle with half the sides at a random place, as a multiple of ``p``.
        filtered: whether images are resampled at twice their resolution between two passes of a wavelet filter, as in
            the paper, and not bilinearly, which is faster but blurs them.

    Attributes:
        p: probability of each transformation; a buffer, so that checkpoints contain it.
    """

    p: Tensor

    def __init__(self, colors: float = 1.0, cutout: float = 0.0, filtered: bool = False) -> None:
        super().__init__()
        if min(colors, cutout) < 0:
            raise InputError(f"colors={colors}, cutout={cutout}: multiples of a probability, at least 0")
        self.colors, self.cutout, self.filtered = colors, cutout, filtered
        self.register_buffer("p", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        with torch.autocast(x.device.type, enabled=False):
            x = self._moved(x.float())
            if self.colors:
                x = self._colored(x)
            return self._cut(x) if self.cutout else x

    def figures(self) -> dict[str, Tensor]:
        return {"augment_p": self.p.clone()}

    def _chosen(self, x: Tensor, p: Tensor | None = None) -> Tensor:
        """Draw booleans ``(B,)`` that are True with probability ``p``."""
        return torch.rand(len(x), device=x.device) < (self.p if p is None else p)

    def _moved(self, x: Tensor) -> Tensor:
        H, W = x.shape[2:]
        inverse = self._blit(x) @ self._geometry(x)
        if self.filtered:
            return resample_filtered(x, inverse[:, :2])
        sides = torch.tensor([W / 2, H / 2, 1.0], device=x.device)  # from pixels to the units of resample
        return resample(x, (inverse * sides / sides[:, None])[:, :2])

    def _blit(self, x: Tensor) -> Tensor:
        """Draw the inverse of transformations that map pixels to pixels (flips, quarter turns, whole-pixel shifts).

        Returns:
            Matrices ``(B, 3, 3)`` from positions in the result to positions in the image, in pixels from the centre.
        """
        B, _, H, W = x.shape
        flipped = self._chosen(x) & (torch.rand(B, device=x.device) < 0.5)
        flip = 1 - 2 * flipped.float()
        inverse = _scaling(flip, torch.ones_like(flip))
        if H == W:
            quarters = torch.randint(0, 4, (B,), device=x.device) * self._chosen(x)
            inverse = inverse @ _rotation(quarters * math.pi / 2)
        chosen = self._chosen(x)
        right, down = (((torch.rand(B, device=x.device) - 0.5) * side / 4).round() * chosen for side in (W, H))
        return inverse @ _translation(right, down)

    def _geometry(self, x: Tensor) -> Tensor:
        """Draw the inverse of transformations that need interpolation (scalings, rotations, fractional shifts)."""
        B, _, H, W = x.shape
        scale = torch.exp2(0.2 * torch.randn(B, device=x.device) * self._chosen(x))
        inverse = _scaling(1 / scale, 1 / scale)
        p_rotation = 1 - (1 - self.p).clamp_min(0).sqrt()  # so that with probability p, either rotation happens
        angles = (torch.rand(2, B, device=x.device) * 2 - 1) * math.pi
        before, after = (_rotation(angle * self._chosen(x, p_rotation)) for angle in angles)
        stretch = torch.exp2(0.2 * torch.randn(B, device=x.device) * self._chosen(x))
        inverse = inverse @ before @ _scaling(1 / stretch, stretch) @ after
        chosen = self._chosen(x)
        right, down = (0.125 * side * torch.randn(B, device=x.device) * chosen for side in (W, H))
        return inverse @ _translation(right, down)

    def _colored(self, x: Tensor) -> Tensor:
        B, C = x.shape[:2]
        device = x.device
        p = self.p * self.colors
        x = 2 * x - 1

        def factor(std: float) -> Tensor:
            drawn = torch.exp2(std * torch.randn(B, device=device))
            return torch.where(self._chosen(x, p), drawn, torch.ones_like(drawn)).view(B, 1, 1, 1)

        brightness = 0.2 * torch.randn(B, device=device) * self._chosen(x, p)
        x = (x + brightness.view(B, 1, 1, 1)) * factor(0.5)
        luma = x.mean(1, keepdim=True)
        flipped = (self._chosen(x, p) & (torch.rand(B, device=device) < 0.5)).view(B, 1, 1, 1)
        x = torch.where(flipped, x - 2 * luma, x)
        if C == 3:
            angle = (torch.rand(B, device=device) * 2 - 1) * math.pi * self._chosen(x, p)
            x = torch.einsum("bij,bjhw->bihw", _about_grey(angle), x)
            luma = x.mean(1, keepdim=True)
            x = luma + (x - luma) * factor(1.0)
        return (x + 1) / 2

    def _cut(self, x: Tensor) -> Tensor:
        centre = torch.rand(2, len(x), 1, device=x.device)
        rows, columns = (
            ((torch.arange(side, device=x.device) + 0.5) / side - at).abs() < 0.25  # (B, side)
            for side, at in zip(x.shape[2:], centre, strict=True)
        )
        chosen = self._chosen(x, self.p * self.cutout)[:, None, None]
        return x.masked_fill((chosen & rows[:, :, None] & columns[:, None, :]).unsqueeze(1), GREY)


class AdaptiveAugmentation(AugmentPipe):
    """Adaptive discriminator augmentation (ADA): ``p`` follows the overfitting of the discriminator D.

    ``p`` rises while D is too certain about real images (``E[sign D(real)]`` above ``target``) and falls otherwise.

    Args:
        target: target value of ``E[sign D(real)]``.
        images_to_full: number of images over which ``p`` rises from 0 to 1 at full speed.
        every: number of the discriminator's batches between two changes of ``p``.
        colors: probability of each colour transformation, as a multiple of ``p``.
        cutout: probability of a grey rectangle, as a multiple of ``p``.
        filtered: whether images are resampled with wavelet filters, as in the papers, and not bilinearly.
    """

    _signs: Tensor
    _seen: Tensor
    _steps: Tensor

    def __init__(
        self,
        target: float = 0.6,
        images_to_full: int = 500_000,
        every: int = 4,
        colors: float = 1.0,
        cutout: float = 0.0,
        filtered: bool = False,
    ) -> None:
        super().__init__(colors, cutout, filtered)
        if images_to_full < 1 or every < 1:
            raise InputError(f"images_to_full={images_to_full}, every={every}: at least 1")
        self.target, self.images_to_full, self.every = target, images_to_full, every
        for name in ("_signs", "_seen", "_steps"):
            self.register_buffer(name, torch.zeros(()))

    @torch.no_grad()
    def update(self, certainty: Tensor) -> None:
        self._signs += certainty.sign().sum()
        self._seen += len(certainty)
        self._steps += 1
        signs, seen = self._signs, self._seen
        if dist.is_initialized() and dist.get_world_size() > 1:
            both = torch.stack([signs, seen])
            dist.all_reduce(both)
            signs, seen = both
        # Whether p changes in this step is a factor of 0 or 1 on the device, because a branch would synchronize.
        turn = (self._steps >= self.every).float()
        step = (signs / seen - self.target).sign() * seen / self.images_to_full
        self.p.copy_((self.p + turn * step).clamp(0, 1))
        for buffer in (self._signs, self._seen, self._steps):
            buffer *= 1 - turn


class ScheduledAugmentation(AugmentPipe):
    """Augmentation whose ``p`` rises from 0 along half a cosine, as in the code of R3GAN (arXiv:2501.05441).

    Args:
        final_p: final value of ``p``.
        ramp_images: number of images seen when ``p`` reaches its final value.
        colors: probability of each colour transformation, as a multiple of ``p``.
        cutout: probability of a grey rectangle, as a multiple of ``p``.
        filtered: whether images are resampled with wavelet filters, as in the papers, and not bilinearly.
    """

    def __init__(
        self,
        final_p: float = 0.55,
        ramp_images: int = 20_000_000,
        colors: float = 0.5,
        cutout: float = 1.0,
        filtered: bool = False,
    ) -> None:
        super().__init__(colors, cutout, filtered)
        if not 0 <= final_p <= 1 or ramp_images < 1:
            raise InputError(f"final_p={final_p}, ramp_images={ramp_images}: a probability, and at least 1 image")
        self.final_p, self.ramp_images = final_p, ramp_images

    def prepare(self, images_seen: int) -> None:
        self.p.fill_(self.final_p * (1 - math.cos(math.pi * min(1.0, images_seen / self.ramp_images))) / 2)


def resample(x: Tensor, affine: Tensor) -> Tensor:
    """Resample images ``(B, C, H, W)`` bilinearly under affine transformations ``(B, 2, 3)``, mirrored at the borders.

    This replaces ``F.grid_sample``, which has no second derivative.
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
    """Map positions into [0, side - 1] by mirroring at the outer edges of the border pixels."""
    around = (position + 0.5) % (2 * side)
    return (torch.minimum(around, 2 * side - around) - 0.5).clamp(0, side - 1)


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
    """Build rotations of hue: matrices ``(B, 3, 3)`` that rotate colours about the grey axis."""
    c, s = angle.cos().view(-1, 1, 1), angle.sin().view(-1, 1, 1)
    identity = torch.eye(3, device=angle.device)
    grey = torch.full((3, 3), 1 / 3, device=angle.device)
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=angle.device) / math.sqrt(3)
    return c * identity + (1 - c) * grey + s * cross
