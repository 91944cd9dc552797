"""Encode images to a model's latents, decode latents to images, and make paths between latents."""

from collections.abc import Callable

import torch
from torch import Tensor

from genlab.distributions.noise import generators, normal
from genlab.errors import InputError
from genlab.metrics.drawing import evaluating, own_randomness
from genlab.models.abilities import DecodesNoise, LatentModel
from genlab.models.base import GenerativeModel

Decode = Callable[[Tensor, Tensor | None], Tensor]


class Latents:
    """Encoder and decoder of a trained model, in evaluation mode, in batches and with a fixed random seed.

    Args:
        model: model with latents.
        seed: random seed of the encoder's noise and of random latents.

    Raises:
        InputError: if the model has no latents.
    """

    def __init__(self, model: GenerativeModel, seed: int = 0) -> None:
        if not isinstance(model, LatentModel | DecodesNoise):
            raise InputError("this run's model has no latents: mode=grid shows its samples")
        self.model, self.seed = model, seed

    def _classes(self, y: Tensor | None) -> Tensor | None:
        return None if y is None else y.to(self.model.device)

    def encode(self, x: Tensor, y: Tensor | None, batch_size: int = 500) -> Tensor:
        """Encode images ``(N, C, H, W)`` to latents ``(N, D)``.

        Args:
            x: images in [0, 1].
            y: classes of the images, int64 ``(N,)``; None for an unconditional model.
            batch_size: number of images encoded at once.

        Raises:
            InputError: if the model has no encoder, as GANs.
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
        """Decode latents ``(N, D)`` to images ``(N, C, H, W)`` on the CPU.

        Args:
            z: latents.
            y: classes of the images, int64 ``(N,)``; None for an unconditional model.
            batch_size: number of latents decoded at once.
        """
        model = self.model
        assert isinstance(model, LatentModel | DecodesNoise)
        with evaluating(model):
            parts = [
                model.decode(z[i : i + batch_size], self._classes(_part(y, i, batch_size))).float().cpu()
                for i in range(0, len(z), batch_size)
            ]
        return torch.cat(parts)

    def random(self, num: int) -> Tensor:
        """Draw latents ``(num, D)`` from the prior of a GAN."""
        assert isinstance(self.model, DecodesNoise)
        return normal((num, self.model.latent_dim), generators(self.seed, range(num)), self.model.device)


def _part(y: Tensor | None, first: int, size: int) -> Tensor | None:
    return None if y is None else y[first : first + size]


def slerp(a: Tensor, b: Tensor, steps: int) -> Tensor:
    """Interpolate spherically between latents (slerp): Sampling Generative Networks (arXiv:1609.04468).

    Points on the great circle between Gaussian latents have the lengths that the model saw in training, unlike points
    on a straight line, which passes near the origin. Lengths are interpolated linearly. Latents in the same or in
    opposite directions, which have no unique great circle, are interpolated linearly too.

    Args:
        a: latents ``(N, D)`` of the first column.
        b: latents ``(N, D)`` of the last column.
        steps: number of points, including both ends.

    Returns:
        Latents ``(N, steps, D)``.
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
    """Decode points on the great circles between pairs of latents to ``(N * steps, C, H, W)``, a row for each pair.

    Args:
        decode: function from latents ``(N * steps, D)`` and classes to images.
        start: latents ``(N, D)`` of the first column.
        end: latents ``(N, D)`` of the last column.
        y: classes of the rows, int64 ``(N,)``; None for an unconditional model.
        steps: number of columns.
    """
    points = slerp(start, end, steps).flatten(0, 1)
    return decode(points, None if y is None else y.repeat_interleave(steps))


def image_pairs(decode: Decode, x: Tensor, z: Tensor, y: Tensor | None) -> Tensor:
    """Put after each image the image that its latents decode to, ``(2N, C, H, W)``.

    Args:
        decode: function from latents and classes to images.
        x: images ``(N, C, H, W)``.
        z: latents of the images, ``(N, D)``.
        y: classes of the images, int64 ``(N,)``; None for an unconditional model.
    """
    return torch.stack([x, decode(z, y).to(x.dtype)], 1).flatten(0, 1)


@torch.no_grad()
def reconstructions(model: GenerativeModel, x: Tensor, y: Tensor | None = None) -> Tensor | None:
    """Put after each image its reconstruction, ``(2B, C, H, W)``; give None if the model has no encoder.

    Args:
        model: model in evaluation mode.
        x: images ``(B, C, H, W)`` in [0, 1].
        y: classes of the images, int64 ``(B,)``; None for an unconditional model.
    """
    if not isinstance(model, LatentModel):
        return None
    return image_pairs(model.decode, x, model.encode(x, y), y)


@torch.no_grad()
def interpolations(model: GenerativeModel, x: Tensor, y: Tensor | None = None, steps: int = 8) -> Tensor | None:
    """Interpolate from each image of the first half of a batch to one of the second; give None without latents.

    A model without an encoder interpolates between random latents instead.

    Args:
        model: model in evaluation mode.
        x: images ``(B, C, H, W)`` in [0, 1].
        y: classes of the images, int64 ``(B,)``, of which a row has that of its first image; None for an unconditional
            model.
        steps: number of images in a row.

    Returns:
        Images ``(B // 2 * steps, C, H, W)``, row by row; None of a single image.
    """
    rows = len(x) // 2
    if rows == 0:
        return None
    y = None if y is None else y[:rows]
    if isinstance(model, LatentModel):
        z = model.encode(x[: 2 * rows], None if y is None else y.repeat(2))
    elif isinstance(model, DecodesNoise):
        z = normal((2 * rows, model.latent_dim), generators(0, range(2 * rows)), model.device)
    else:
        return None
    return path_images(model.decode, z[:rows], z[rows : 2 * rows], y, steps)


def has_latents(model: GenerativeModel) -> bool:
    """Tell whether a model decodes latents to examples."""
    return isinstance(model, LatentModel | DecodesNoise)
