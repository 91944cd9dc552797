"""How a flow of the plane makes data of noise: a film of its samples on their way, and its stages side by side."""

import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genlab.distributions.noise import generators, normal
from genlab.metrics.measure import density_in_plane, evaluating
from genlab.models.base import GenerativeModel

Pixels = NDArray[np.uint8]


@runtime_checkable
class StepByStep(Protocol):
    """A model that decodes in steps."""

    def path(self, z: Tensor, y: Tensor | None = None, times: int = 16) -> list[Tensor]:
        """From latents ``(B, D)`` to examples ``(B, D)``, both included; what is continuous at ``times`` times."""
        ...


def moves_in_plane(model: GenerativeModel) -> bool:
    """Whether a model's samples can be filmed on their way."""
    return model.shape == (2,) and isinstance(model, StepByStep)


def stages(model: GenerativeModel, num: int, *, seed: int, times: int = 16) -> Tensor:
    """Where samples are on their way, ``(S, num, 2)`` on the CPU: first the noise, last the stream ``seed``'s samples.

    Args:
        model: that moves in the plane.
        times: at which a continuous flow is stopped.
    """
    assert isinstance(model, StepByStep)
    streams = generators(seed, range(num))
    with evaluating(model):
        y = model.classes(num, None, streams)
        path = model.path(normal((num, model.num_dims), streams, model.device), y, times)
    return torch.stack(path).float().cpu()


def noise_to_data(
    model: GenerativeModel, real: Tensor, *, num: int = 2000, num_frames: int = 48, num_stages: int = 5, seed: int = 0
) -> tuple[list[Image.Image], Image.Image]:
    """The frames of a film, and a sheet of stages and of the density that they end in.

    Between two stages points move on straight lines. A point has one colour all the way, by its direction in the noise.

    Args:
        model: that moves in the plane.
        real: points of the data ``(M, 2)``, all of which are in view; of the noise 99 % are.
        num: samples.
        num_frames: with samples that move; some more show the density.
        num_stages: on the sheet, at most.
    """
    way = stages(model, num, seed=seed)
    window = _Window.around(way[0], real.float().cpu())
    colours = _by_direction(way[0] - way[0].mean(0))
    blank = np.full((window.side, window.side, 3), 255, np.uint8)
    density = _shaded(model, window)
    frames = [window.drawn(points, colours, blank) for points in _between(way, num_frames)]
    for share in (0.25, 0.5, 0.75, 1.0):
        background = (blank + share * (density.astype(float) - blank)).astype(np.uint8)
        frames.append(window.drawn(way[-1], colours, background))
    last = len(way) - 1
    shown = sorted({round(i) for i in np.linspace(0, last, min(num_stages, len(way)))})
    panels = [(_name(i, last), window.drawn(way[i], colours, blank)) for i in shown]
    return frames, _side_by_side([*panels, ("density, from 10 nats below its top", Image.fromarray(density))])


class _Window:
    """A square part of the plane as ``side * side`` pixels.

    Args:
        left, bottom: its lower left corner.
        width: of it, in the units of points.
    """

    def __init__(self, left: float, bottom: float, width: float, side: int = 320) -> None:
        self.left, self.bottom, self.width, self.side = left, bottom, width, side

    @classmethod
    def around(cls, noise: Tensor, real: Tensor) -> "_Window":
        low, high = real.min(0).values, real.max(0).values
        spread = torch.quantile((noise - noise.mean(0)).abs(), 0.99, dim=0)
        low = torch.minimum(low - 0.05 * (high - low), noise.mean(0) - spread)
        high = torch.maximum(high + 0.05 * (high - low), noise.mean(0) + spread)
        width = max(float((high - low).max()), 1e-3)
        left, bottom = ((low + high) / 2 - width / 2).tolist()
        return cls(left, bottom, width)

    def points(self, side: int) -> Tensor:
        """Middles of ``side * side`` cells, row by row from the top, ``(side², 2)``."""
        along = (torch.arange(side) + 0.5) * self.width / side
        y, x = torch.meshgrid(self.bottom + along.flip(0), self.left + along, indexing="ij")
        return torch.stack([x, y], -1).view(-1, 2)

    def drawn(self, points: Tensor, colours: Pixels, background: Pixels) -> Image.Image:
        """Points ``(N, 2)`` in their colours ``(N, 3)`` as discs on a background ``(side, side, 3)``.

        Twice as large first, which makes round edges of square pixels.
        """
        size = 2 * self.side
        canvas = background.repeat(2, 0).repeat(2, 1)
        at = points.nan_to_num(math.inf).numpy()
        column = np.clip((at[:, 0] - self.left) / self.width * size, -9, size + 9).astype(int)
        row = np.clip(size - (at[:, 1] - self.bottom) / self.width * size, -9, size + 9).astype(int)
        for dy, dx in _DISC:
            y, x = row + dy, column + dx
            inside = (y >= 0) & (y < size) & (x >= 0) & (x < size)
            canvas[y[inside], x[inside]] = colours[inside]
        return Image.fromarray(canvas).resize((self.side, self.side), Image.Resampling.BOX)


_DISC = [(dy, dx) for dy in range(-2, 3) for dx in range(-2, 3) if dy * dy + dx * dx <= 5]


def _by_direction(noise: Tensor) -> Pixels:
    """A colour for each point ``(N, 2)`` around 0, ``(N, 3)``."""
    from matplotlib.colors import hsv_to_rgb

    hue = torch.atan2(noise[:, 1], noise[:, 0]) / (2 * math.pi) + 0.5
    hsv = np.stack([hue.numpy(), np.full(len(hue), 0.85), np.full(len(hue), 0.8)], 1)
    return (255 * hsv_to_rgb(hsv)).astype(np.uint8)


def _between(way: Tensor, num_frames: int) -> Tensor:
    """Stages ``(S, N, 2)`` and what lies on the lines between them, ``(num_frames, N, 2)``, both ends included."""
    at = torch.linspace(0, len(way) - 1, num_frames)
    before = at.long().clamp_max(len(way) - 2)
    return torch.lerp(way[before], way[before + 1], (at - before).view(-1, 1, 1))


def _shaded(model: GenerativeModel, window: _Window, side: int = 160) -> Pixels:
    """The model's density, the darker the higher, ``(window.side, window.side, 3)``."""
    import matplotlib

    log_density = density_in_plane(model)
    assert log_density is not None
    heights = torch.cat([log_density(part).float().cpu() for part in window.points(side).split(6400)])
    heights = heights.nan_to_num(nan=-math.inf).view(side, side)
    shares = ((heights - heights.max()) / 10 + 1).clamp(0, 1)
    shaded = Image.fromarray((255 * matplotlib.colormaps["Greys"](0.8 * shares.numpy())[..., :3]).astype(np.uint8))
    return np.asarray(shaded.resize((window.side, window.side), Image.Resampling.BILINEAR))


def _name(stage: int, last: int) -> str:
    return {0: "noise", last: "samples"}.get(stage, f"after step {stage} of {last}")


def _side_by_side(panels: list[tuple[str, Image.Image]]) -> Image.Image:
    side, gap, top = panels[0][1].width, 8, 24
    sheet = Image.new("RGB", (len(panels) * (side + gap) - gap, side + top), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
    for i, (name, panel) in enumerate(panels):
        left = i * (side + gap)
        sheet.paste(panel, (left, top))
        draw.rectangle((left, top, left + side - 1, top + side - 1), outline="#bbbbbb")
        draw.text((left + side / 2, top / 2), name, fill="black", font=font, anchor="mm")
    return sheet
