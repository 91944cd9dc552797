"""Moving in a model's latents and looking at what comes out, each as rows of images."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from genlab.distributions.noise import generators, normal
from genlab.errors import InputError
from genlab.metrics.measure import evaluating, own_randomness
from genlab.models.base import DecodesNoise, GenerativeModel, LatentModel
from genlab.runs.latents import slerp

# Latents (B, D) to images, with what else a conditional model must be told already in it.
Decode = Callable[[Tensor], Tensor]


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


def reconstructed(latents: Latents, x: Tensor, y: Tensor | None) -> Tensor:
    """Each image and, after it, what its latents give, ``(2N, C, H, W)``."""
    return torch.stack([x.cpu(), latents.decode(latents.encode(x, y), y)], 1).flatten(0, 1)


def from_one_to_another(latents: Latents, x: Tensor, y: Tensor | None, steps: int) -> Tensor:
    """A row from the first image to the second, one from the third to the fourth, ``(N / 2 * steps, C, H, W)``.

    Along great circles, as :func:`~genlab.runs.latents.slerp`; a row is of its first image's class.
    """
    z = latents.encode(x, y)
    path = slerp(z[0::2], z[1::2], steps).flatten(0, 1)
    return latents.decode(path, None if y is None else y[0::2].repeat_interleave(steps))


def traversed(
    latents: Latents,
    x: Tensor | None,
    y: Tensor | None,
    rows: int,
    steps: int,
    extent: float,
    background: Tensor | None = None,
    of_background: Tensor | None = None,
) -> tuple[Tensor, list[int]]:
    """A latent in each row, from ``-extent`` to ``extent`` of its standard deviations around its mean, the others as
    they are: ``(rows * steps, C, H, W)``, and which latents they are, the most active first.

    A latent is as active as the aggregate posterior's mean varies over images; of a GAN, as its change of 1 changes the
    image.

    Args:
        x: the image ``(1, C, H, W)`` to begin at; ``None`` for a random latent of a GAN.
        y: its class ``(1,)``.
        background: images ``(N, C, H, W)`` to know the latents' spread by.
        of_background: their classes.
    """
    if background is None:
        z = latents.random(1)
        activity = _effect(latents, z, y)
        mean, std = torch.zeros_like(z[0]), torch.ones_like(z[0])
    else:
        assert x is not None
        z, known = latents.encode(x, y), latents.encode(background, of_background)
        mean, std = known.mean(0), known.std(0)
        activity = std
    chosen = activity.argsort(descending=True)[:rows].tolist()
    at = torch.linspace(-extent, extent, steps, device=z.device)
    moved = z.repeat(len(chosen), steps, 1)
    for row, i in enumerate(chosen):
        moved[row, :, i] = mean[i] + at * std[i]
    images = latents.decode(moved.flatten(0, 1), None if y is None else y.repeat(len(chosen) * steps))
    return images, chosen


def _effect(latents: Latents, z: Tensor, y: Tensor | None) -> Tensor:
    """How much each latent's change from -1 to 1 changes the image, ``(D,)``."""
    D = z.shape[1]
    unit = torch.eye(D, device=z.device)
    ends = [latents.decode(z * (1 - unit) + sign * unit, None if y is None else y.repeat(D)) for sign in (-1, 1)]
    return (ends[1] - ends[0]).flatten(1).norm(dim=1)


def with_attribute(
    latents: Latents,
    x: Tensor,
    y: Tensor,
    pairs: Sequence[tuple[int, int]],
    steps: int,
    background: Tensor,
    of_background: Tensor,
) -> Tensor:
    """An image of the first class of each pair moved by the difference of the classes' mean latents, and half as far
    again: ``(len(pairs) * steps, C, H, W)``.

    Args:
        x, y: images and classes, of which the first of a pair's first class is taken.
        pairs: from which class to which.
        background, of_background: labelled images for the means.
    """
    z = latents.encode(background, of_background)
    means = {k: z[of_background.to(z.device) == k].mean(0) for pair in pairs for k in pair}
    missing = [k for pair in pairs for k in pair if not (of_background == k).any() or not (y == pair[0]).any()]
    if missing:
        raise InputError(f"attribute={missing[0]}: no image of this class was found")
    first = torch.stack([(y == a).nonzero()[0, 0] for a, _ in pairs])
    start = latents.encode(x[first], y[first])
    direction = torch.stack([means[b] - means[a] for a, b in pairs])
    t = torch.linspace(0, 1.5, steps, device=z.device).view(1, -1, 1)
    moved = start.unsqueeze(1) + t * direction.unsqueeze(1)
    return latents.decode(moved.flatten(0, 1), y[first].repeat_interleave(steps))


def manifold(latents: Latents, y: Tensor | None, steps: int) -> Tensor:
    """The plane of two latents at the quantiles of N(0, 1), ``(steps², C, H, W)`` from the top left, as in figure 4 of
    Auto-Encoding Variational Bayes (arXiv:1312.6114)."""
    at = torch.special.ndtri((torch.arange(steps, device=latents.model.device) + 0.5) / steps)
    z = torch.stack([at.repeat(steps), at.flip(0).repeat_interleave(steps)], 1)
    return latents.decode(z, None if y is None else y.repeat(len(z)))
