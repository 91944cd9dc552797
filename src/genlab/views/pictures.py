"""Samples as files to look at: images on a sheet, points over the points of the data."""

import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from genlab.machine.files import write_atomically

if TYPE_CHECKING:  # comparing runs needs their pictures, not PyTorch
    from torch import Tensor


def grid(images: "Tensor", columns: int | None = None, min_side: int = 32) -> Image.Image:
    """Images ``(N, C, H, W)`` in [0, 1] on one sheet; small ones are enlarged by a whole factor.

    Channels beyond grey and colour are shown by their mean.
    """
    import torch
    from torchvision.utils import make_grid

    images = images.detach().float().cpu().clamp(0, 1)
    if images.shape[1] not in (1, 3):
        images = images.mean(1, keepdim=True)
    factor = max(1, math.ceil(min_side / min(images.shape[2:])))
    images = images.repeat_interleave(factor, 2).repeat_interleave(factor, 3)
    columns = columns or math.ceil(math.sqrt(len(images)))
    sheet = make_grid(images, nrow=columns, padding=2, pad_value=0.5)
    return Image.fromarray((sheet * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())


def picture(
    samples: "Tensor", real: "Tensor | None" = None, density: "Callable[[Tensor], Tensor] | None" = None
) -> Image.Image:
    """Images ``(N, C, H, W)`` as :func:`grid`, points ``(N, D)`` as :func:`scatter` of their first two coordinates."""
    return grid(samples) if samples.ndim == 4 else scatter(samples, real, density=density)


def scatter(
    samples: "Tensor",
    real: "Tensor | None" = None,
    surface: "Callable[[Tensor], Tensor] | None" = None,
    density: "Callable[[Tensor], Tensor] | None" = None,
) -> Image.Image:
    """Points ``(N, D)`` in blue over the data's in grey, on axes that the data sets.

    Args:
        real: ``(M, D)``.
        surface: of ``(B, 2)`` points, a height ``(B,)`` that colours the plane, red where it is high.
        density: of ``(B, 2)`` points, log p(x) in nats, ``(B,)``: the darker the higher, from 10 nats below the top.
    """
    import torch
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    in_plane = samples.shape[1] == 2
    samples, *rest = (_first_two(points) for points in (samples, real) if points is not None)
    frame = rest[0] if rest else samples
    low, high = frame.min(0).values, frame.max(0).values
    centre, half = (low + high) / 2, 0.6 * float((high - low).max().clamp_min(1e-3))
    figure = Figure(figsize=(4.8, 4.8), dpi=100)
    axes = figure.add_axes((0.12, 0.1, 0.86, 0.86))
    left, bottom = (float(c) - half for c in centre)
    height = surface or density
    if height is not None and in_plane:
        side = 100
        x = torch.linspace(left, left + 2 * half, side)
        y = torch.linspace(bottom, bottom + 2 * half, side)
        heights = height(torch.cartesian_prod(x, y)).detach().float().cpu().view(side, side).T
        if surface is not None:
            limit = float(heights.abs().quantile(0.98).clamp_min(1e-6))
            lowest, highest, colours = -limit, limit, "RdBu_r"
        else:
            heights = heights.nan_to_num(nan=-math.inf)
            highest = float(heights.max())
            lowest, colours = highest - 10, "YlOrBr"
            heights = heights.clamp_min(lowest)
        axes.imshow(
            heights,
            extent=(left, left + 2 * half, bottom, bottom + 2 * half),
            origin="lower",
            cmap=colours,
            vmin=lowest,
            vmax=highest,
            alpha=0.5 if surface is not None else 0.8,
            interpolation="bilinear",
        )
    if real is not None:
        axes.plot(*frame.T, ".", color="#777777", markersize=1.5, rasterized=True)
    axes.plot(*samples.T, ".", color="#0062b8", markersize=2.5, alpha=0.6, rasterized=True)
    axes.set_xlim(left, left + 2 * half)
    axes.set_ylim(bottom, bottom + 2 * half)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def _first_two(points: "Tensor") -> "Tensor":
    """Coordinates to draw, ``(N, 2)``; points of a line lie on the axis."""
    import torch

    points = points.detach().float().cpu()[:, :2]
    return torch.nn.functional.pad(points, (0, 2 - points.shape[1]))


def scatter_classes(z: "Tensor", y: "Tensor") -> Image.Image:
    """Latents ``(N, D)`` in the colours of their classes ``(N,)``; of more than two, on their principal components."""
    import matplotlib
    import torch
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    z, y = z.detach().float().cpu(), y.cpu()
    names = ["$z_1$", "$z_2$"]
    if z.shape[1] > 2:
        z = z - z.mean(0)
        z = z @ torch.linalg.svd(z, full_matrices=False).Vh[:2].T
        names = ["first principal component of z", "second"]
    z = torch.nn.functional.pad(z, (0, 2 - z.shape[1]))
    figure = Figure(figsize=(6, 5.4), dpi=100)
    axes = figure.add_axes((0.11, 0.09, 0.76, 0.88))
    colours = matplotlib.colormaps["tab10" if int(y.max()) < 10 else "tab20"]
    for k in y.unique().tolist():
        axes.plot(*z[y == k].T, ".", color=colours(k % colours.N), markersize=3, alpha=0.6, label=str(k))
    axes.set_xlabel(names[0])
    axes.set_ylabel(names[1])
    axes.set_aspect("equal", adjustable="datalim")
    axes.legend(loc="center left", bbox_to_anchor=(1, 0.5), frameon=False, markerscale=3, ncols=1)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())


def bars(heights: "Tensor", label: str) -> Image.Image:
    """A bar for each of ``(D,)``, from the highest to the lowest, under their numbers while these can be read.

    By hand, for it is drawn at every validation: matplotlib takes a sixth of a second for it.
    """
    heights, order = heights.detach().float().cpu().sort(descending=True)
    values = heights.clamp_min(0).tolist()
    width, height, left, right, top, bottom = 640, 320, 56, 12, 36, 44
    picture = Image.new("RGB", (width, height), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(12)
    step = (width - left - right) / len(values)
    ceiling = max(values[0], 1e-12)
    floor = height - bottom
    for i in range(5):  # a line at every quarter of the highest
        y = floor - (floor - top) * i / 4
        draw.line((left, y, width - right, y), fill="#dddddd" if i else "black")
        draw.text((left - 6, y), f"{ceiling * i / 4:.3g}", fill="black", font=font, anchor="rm")
    for i, value in enumerate(values):
        x, y = left + step * i, floor - (floor - top) * value / ceiling
        draw.rectangle((x + 0.1 * step, y, x + max(0.9 * step, 0.1 * step + 1), floor), fill="#0062b8")
        if len(values) <= 32:
            draw.text((x + step / 2, floor + 4), str(int(order[i])), fill="black", font=font, anchor="ma")
    draw.text((left, 10), label, fill="black", font=font)
    draw.text((width - right, height - 6), "number, from the highest", fill="black", font=font, anchor="rd")
    return picture


def film(frames: "Sequence[Path | Image.Image]", path: Path, max_frames: int = 100, seconds: float = 8.0) -> None:
    """Pictures one after the other as an animated GIF; of more than ``max_frames``, evenly chosen ones."""
    chosen = [frames[round(i)] for i in np.linspace(0, len(frames) - 1, min(max_frames, len(frames)))]
    opened = [frame if isinstance(frame, Image.Image) else Image.open(frame) for frame in chosen]
    images = [frame.convert("P", palette=Image.Palette.ADAPTIVE, colors=64) for frame in opened]
    content = io.BytesIO()
    last = max(1, len(images) - 1)
    durations = [max(40, int(1000 * seconds / last))] * last + [1500]
    images[0].save(
        content, format="GIF", save_all=True, append_images=images[1:], duration=durations[: len(images)], loop=0
    )
    write_atomically(path, content.getvalue())


def save_png(image: Image.Image, path: Path) -> None:
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def save_array(samples: "Tensor", path: Path) -> None:
    """Images as uint8 ``(N, C, H, W)``, points as float ``(N, D)``, in ``.npy``: for other programs and for
    ``genlab compare``."""
    samples = samples.detach().float().cpu()
    content = io.BytesIO()
    np.save(content, ((samples.clamp(0, 1) * 255).round().byte() if samples.ndim == 4 else samples).numpy())
    write_atomically(path, content.getvalue())
