"""What matplotlib's figures have in common: colours, axes without a frame, and their conversion to images."""

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLOURS = ("#0062b8", "#d1560c", "#2e8540", "#8f3f97", "#7a6a00", "#555555")  # of lines, one after the other


def open_sides(axes: "Axes") -> None:
    """Remove the upper and the right side of the frame of axes."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def as_image(figure: "Figure") -> Image.Image:
    """Draw a figure without a display, and give it as an image."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[..., :3].copy())
