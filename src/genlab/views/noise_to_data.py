"""Show how a flow turns noise in the plane into data: a film of samples on their way, and stages side by side."""

import math
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from genlab.distributions.noise import generators, normal
from genlab.metrics.drawing import density_in_plane, evaluating
from genlab.models.base import GenerativeModel

Pixels = NDArray[np.uint8]


@runtime_checkable
class StepByStep(Protocol):
    """A model that decodes in steps."""

    def trajectory(self, z: Tensor, y: Tensor | None = None, times: int = 16) -> list[Tensor]:
        """Give all stages from latents ``(B, D)`` to examples ``(B, D)``, including both.

        Args:
            z: latents.
            y: classes, int64 ``(B,)``; None for an unconditional model.
            times: number of stages of a continuous flow.
        """
        ...


def moves_in_plane(model: GenerativeModel) -> bool:
    """Tell whether a model moves points of the plane in steps, so that its samples can be filmed on their way."""
    return model.shape == (2,) and isinstance(model, StepByStep)


def stages(model: GenerativeModel, num: int, *, seed: int, times: int = 16) -> Tensor:
    """Compute where samples are at each stage, ``(S, num, 2)`` on the CPU, from noise (first) to samples (last).

    Args:
        model: model for which :func:`moves_in_plane` holds.
        num: number of samples.
        seed: random seed of the noise; the last stage has the same samples as others drawn with this seed.
        times: number of stages of a continuous flow.
    """
    assert isinstance(model, StepByStep)
    streams = generators(seed, range(num))
    with evaluating(model):
        y = model.classes(num, None, streams)
        path = model.trajectory(normal((num, model.num_dims), streams, model.device), y, times)
    return torch.stack(path).float().cpu()


def noise_to_data(
    model: GenerativeModel, real: Tensor, *, num: int = 2000, num_frames: int = 48, num_stages: int = 5, seed: int = 0
) -> tuple[list[Image.Image], Image.Image]:
    """Draw a film of samples that move from noise to data, and a sheet with some stages and the model's density.

    Between two stages, points move on straight lines. A point keeps the colour of its direction in the noise.

    Args:
        model: model for which :func:`moves_in_plane` holds.
        real: points of the data ``(M, 2)``; all of them, and 99 % of the noise, are in view.
        num: number of samples.
        num_frames: number of frames with moving samples; a few more show the density.
        num_stages: maximal number of stages on the sheet.
        seed: random seed of the noise.

    Returns:
        The frames of the film, and the sheet.
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
    """A square part of the plane, shown as ``side * side`` pixels.

    Args:
        left: x coordinate of the lower left corner.
        bottom: y coordinate of the lower left corner.
        width: width of the square, in the units of points.
        side: width of the square, in pixels.
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
        """Give the centres of ``side * side`` cells, row by row from the top, ``(side², 2)``."""
        along = (torch.arange(side) + 0.5) * self.width / side
        y, x = torch.meshgrid(self.bottom + along.flip(0), self.left + along, indexing="ij")
        return torch.stack([x, y], -1).view(-1, 2)

    def drawn(self, points: Tensor, colours: Pixels, background: Pixels) -> Image.Image:
        """Draw points ``(N, 2)`` in their colours ``(N, 3)`` as discs on a background ``(side, side, 3)``.

        The picture is drawn at twice its size and then scaled down, to smooth the edges of the discs.
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
    """Give each point ``(N, 2)`` a colour by its direction from 0, ``(N, 3)``."""
    from matplotlib.colors import hsv_to_rgb

    hue = torch.atan2(noise[:, 1], noise[:, 0]) / (2 * math.pi) + 0.5
    hsv = np.stack([hue.numpy(), np.full(len(hue), 0.85), np.full(len(hue), 0.8)], 1)
    return (255 * hsv_to_rgb(hsv)).astype(np.uint8)


def _between(way: Tensor, num_frames: int) -> Tensor:
    """Interpolate between stages ``(S, N, 2)`` on straight lines, ``(num_frames, N, 2)``, including both ends."""
    at = torch.linspace(0, len(way) - 1, num_frames)
    before = at.long().clamp_max(len(way) - 2)
    return torch.lerp(way[before], way[before + 1], (at - before).view(-1, 1, 1))


def _shaded(model: GenerativeModel, window: _Window, side: int = 160) -> Pixels:
    """Draw the model's density, darker where it is higher, ``(window.side, window.side, 3)``."""
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
