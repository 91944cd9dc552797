"""A model's latents: the way into them and back, paths between them, and images of both."""

from collections.abc import Callable

import torch
from torch import Tensor

from genlab.distributions.noise import generators, normal
from genlab.errors import InputError
from genlab.metrics.measure import evaluating, own_randomness
from genlab.models.base import DecodesNoise, GenerativeModel, LatentModel

Decode = Callable[[Tensor, Tensor | None], Tensor]


class Latents:
    """A trained model's way into its latents and back; encoders' noise is drawn from a seed.

    Args:
        model: in evaluation mode inside.
        seed: of what is drawn.

    Raises:
        InputError: the model has no latents.
    """

    def __init__(self, model: GenerativeModel, seed: int = 0) -> None:
        if not isinstance(model, LatentModel | DecodesNoise):
            raise InputError("this run's model has no latents: mode=grid shows its samples")
        self.model, self.seed = model, seed

    def _classes(self, y: Tensor | None) -> Tensor | None:
        return None if y is None else y.to(self.model.device)

    def encode(self, x: Tensor, y: Tensor | None, batch_size: int = 500) -> Tensor:
        """``(N, C, H, W)`` to ``(N, D)``.

        Raises:
            InputError: the model, a GAN, has no encoder.
        """
        model = self.model
        if not isinstance(model, LatentModel):
            raise InputError("this run's model has no encoder, and cannot find the latents of given images")
        with evaluating(model), own_randomness(self.seed, model.device):
            parts = [
                model.encode(x[i : i + batch_size].to(model.device), self._classes(_part(y, i, batch_size))).flatten(1)
                for i in range(0, len(x), batch_size)
            ]
        return torch.cat(parts)

    def decode(self, z: Tensor, y: Tensor | None, batch_size: int = 250) -> Tensor:
        """``(N, D)`` to ``(N, C, H, W)`` on the CPU."""
        model = self.model
        assert isinstance(model, LatentModel | DecodesNoise)
        with evaluating(model):
            parts = [
                model.decode(z[i : i + batch_size], self._classes(_part(y, i, batch_size))).float().cpu()
                for i in range(0, len(z), batch_size)
            ]
        return torch.cat(parts)

    def random(self, num: int) -> Tensor:
        """Latents ``(num, D)`` of a GAN's prior."""
        assert isinstance(self.model, DecodesNoise)
        return normal((num, self.model.latent_dim), generators(self.seed, range(num)), self.model.device)


def _part(y: Tensor | None, first: int, size: int) -> Tensor | None:
    return None if y is None else y[first : first + size]


def slerp(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Points on the great circles from ``a`` to ``b``, both ``(N, D)``: ``(N, steps, D)``, the ends included.

    Between Gaussian latents they keep the length that the model saw in training, where a straight line would cut
    through the middle: Sampling Generative Networks (arXiv:1609.04468). Lengths are interpolated linearly, and so are
    points in one direction or opposite ones.
    """
    t = torch.linspace(0, 1, steps, device=a.device, dtype=a.dtype).view(1, -1, 1)
    a, b = a.unsqueeze(1), b.unsqueeze(1)
    length_a, length_b = a.norm(dim=-1, keepdim=True), b.norm(dim=-1, keepdim=True)
    directions = a / length_a.clamp_min(1e-12), b / length_b.clamp_min(1e-12)
    angle = (directions[0] * directions[1]).sum(-1, keepdim=True).clamp(-1, 1).acos()
    on_circle = (((1 - t) * angle).sin() * directions[0] + (t * angle).sin() * directions[1]) / angle.sin()
    is_circle = (angle.sin() > 1e-4) & (length_a > 0) & (length_b > 0)
    return torch.where(is_circle, torch.lerp(length_a, length_b, t) * on_circle, torch.lerp(a, b, t))


def path_images(decode: Decode, start: Tensor, end: Tensor, y: Tensor | None, steps: int) -> Tensor:
    """Decode points on the great circles from some latents to others, ``(N * steps, C, H, W)``, a row for each pair.

    Args:
        decode: latents ``(N * steps, D)`` and classes to images.
        start: latents ``(N, D)`` of the first column.
        end: latents ``(N, D)`` of the last column.
        y: classes ``(N,)`` of the rows, of a conditional model.
        steps: number of columns.
    """
    points = slerp(start, end, steps).flatten(0, 1)
    return decode(points, None if y is None else y.repeat_interleave(steps))


def image_pairs(decode: Decode, x: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
    """Put after each image ``(N, C, H, W)`` what its latents ``(N, D)`` decode to, ``(2N, C, H, W)``."""
    return torch.stack([x, decode(z, y).to(x.dtype)], 1).flatten(0, 1)


@torch.no_grad()
def reconstructions(model: GenerativeModel, x: Tensor, y: Tensor | None = None) -> Tensor | None:
    """Each image and, after it, what decoding its latent gives, ``(2B, C, H, W)``; ``None`` without an encoder.

    Args:
        x: ``(B, C, H, W)`` in [0, 1].
        y: classes ``(B,)`` of a conditional model.
    """
    if not isinstance(model, LatentModel):
        return None
    return image_pairs(model.decode, x, model.encode(x, y), y)


@torch.no_grad()
def interpolations(model: GenerativeModel, x: Tensor, y: Tensor | None = None, steps: int = 8) -> Tensor | None:
    """From each image of the first half to one of the second, ``(B / 2 * steps, C, H, W)``; ``None`` without latents.

    A model that cannot encode goes from one random latent to another. The class is that of a row's first image.
    """
    rows = len(x) // 2
    y = None if y is None else y[:rows]
    if isinstance(model, LatentModel):
        z = model.encode(x, None if y is None else y.repeat(2))
    elif isinstance(model, DecodesNoise):
        z = normal((2 * rows, model.latent_dim), generators(0, range(2 * rows)), model.device)
    else:
        return None
    return path_images(model.decode, z[:rows], z[rows : 2 * rows], y, steps)


def has_latents(model: GenerativeModel) -> bool:
    return isinstance(model, LatentModel | DecodesNoise)
