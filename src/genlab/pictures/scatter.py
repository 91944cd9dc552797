"""Scatter plots: samples over data, and latents by class."""

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

from PIL import Image

from genlab.pictures.figures import as_image

if TYPE_CHECKING:
    from torch import Tensor


def scatter(
    samples: "Tensor",
    real: "Tensor | None" = None,
    surface: "Callable[[Tensor], Tensor] | None" = None,
    density: "Callable[[Tensor], Tensor] | None" = None,
) -> Image.Image:
    """Draw sampled points in blue over data points in grey, on axes that fit the data.

    Args:
        samples: sampled points, ``(N, D)``; only their first two coordinates are drawn.
        real: data points, ``(M, D)``; ``None`` for none.
        surface: function from points ``(B, 2)`` to heights ``(B,)``, which colour the plane, red where they are high.
        density: function from points ``(B, 2)`` to log p(x) in nats, ``(B,)``; darker is higher, and values more than
            10 nats below the maximum are not distinguished. It is used only without ``surface``. Both are drawn only if
            D = 2.
    """
    import torch
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
    return as_image(figure)


def _first_two(points: "Tensor") -> "Tensor":
    """Give the two coordinates to draw, ``(N, 2)``; one-dimensional points lie on the horizontal axis."""
    import torch

    points = points.detach().float().cpu()[:, :2]
    return torch.nn.functional.pad(points, (0, 2 - points.shape[1]))


def scatter_classes(z: "Tensor", y: "Tensor") -> Image.Image:
    """Draw latents in the colours of their classes; if D > 2, by their first two principal components.

    Args:
        z: latents, ``(N, D)``.
        y: classes, int64 ``(N,)``.
    """
    import matplotlib
    import torch
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
    return as_image(figure)
