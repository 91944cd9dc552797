"""What is between two latents, and what a latent keeps of an image, as pictures."""

import torch
from torch import Tensor

from genlab.distributions.noise import generators, normal
from genlab.models.base import DecodesNoise, GenerativeModel, LatentModel


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


@torch.no_grad()
def reconstructions(model: GenerativeModel, x: Tensor, y: Tensor | None = None) -> Tensor | None:
    """Each image and, after it, what decoding its latent gives, ``(2B, C, H, W)``; ``None`` without an encoder.

    Args:
        x: ``(B, C, H, W)`` in [0, 1].
        y: classes ``(B,)`` of a conditional model.
    """
    if not isinstance(model, LatentModel):
        return None
    return torch.stack([x, model.decode(model.encode(x, y), y).to(x.dtype)], 1).flatten(0, 1)


@torch.no_grad()
def interpolations(model: GenerativeModel, x: Tensor, y: Tensor | None = None, steps: int = 8) -> Tensor | None:
    """From each image of the first half to one of the second, ``(B / 2 * steps, C, H, W)``; ``None`` without latents.

    A model that cannot encode goes from one random latent to another. The class is that of a row's first image.
    """
    rows = len(x) // 2
    y = None if y is None else y[:rows].repeat_interleave(steps)
    if isinstance(model, LatentModel):
        z = model.encode(x, None if y is None else y[::steps].repeat(2))
    elif isinstance(model, DecodesNoise):
        z = normal((2 * rows, model.latent_dim), generators(0, range(2 * rows)), model.device)
    else:
        return None
    between = slerp(z[:rows], z[rows : 2 * rows], steps).flatten(0, 1)
    return model.decode(between, y)


def has_latents(model: GenerativeModel) -> bool:
    return isinstance(model, LatentModel | DecodesNoise)
