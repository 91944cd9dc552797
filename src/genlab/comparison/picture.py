"""A picture with the samples of several runs."""

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from genlab.comparison.cells import Row
from genlab.comparison.runs import Run
from genlab.errors import InputError
from genlab.machine.plain_text import on_one_line
from genlab.pictures.files import read_array, save_png


def picture(rows: Sequence[Row], columns: int, max_rows: int = 30) -> Image.Image | None:
    """Draw a picture with a row of real images per dataset, then a row of samples per setting.

    Args:
        rows: rows of the comparison.
        columns: number of images per row.
        max_rows: upper limit on the number of rows with samples.

    Returns:
        The picture, or None if no run has samples.
    """
    real: dict[str, np.ndarray] = {}
    drawn: list[tuple[str, np.ndarray]] = []
    for row in rows:
        run = next((run for run in row.runs if samples_of(run) is not None), None)
        if run is None or len(drawn) == max_rows:
            continue
        drawn.append((row.label, samples_of(run)[:columns]))  # type: ignore[index]
        dataset = run.choices.get("dataset", "data")
        if dataset not in real and (images := real_of(run)) is not None:
            real[dataset] = images[:columns]
    if not drawn:
        return None
    strips = [*((f"real {dataset}", images) for dataset, images in real.items()), *drawn]
    side, gap = 48, 3
    label = 20 + max(
        round(ImageDraw.Draw(Image.new("L", (1, 1))).textlength(on_one_line(n), font_size=14)) for n, _ in strips
    )
    label = min(label, 480)
    sheet = Image.new("RGB", (label + columns * (side + gap), len(strips) * (side + gap) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (name, images) in enumerate(strips):
        top = gap + i * (side + gap)
        pen.text((6, top + side // 2 - 6), on_one_line(name), fill="black", font_size=14)
        for j, image in enumerate(images):
            tile = as_picture(image)
            scale = side / max(tile.size)
            size = (max(1, round(scale * tile.width)), max(1, round(scale * tile.height)))
            left = label + j * (side + gap)
            sheet.paste(tile.resize(size, Image.Resampling.NEAREST), (left, top))
    return sheet


def write_picture(rows: Sequence[Row], columns: int, target: Path) -> bool:
    """Write a picture with the samples of several runs, if any of them has samples.

    Args:
        rows: rows of the comparison.
        columns: number of images per row.
        target: path of the picture.

    Returns:
        Whether there is a picture.
    """
    sheet = picture(rows, columns)
    if sheet is not None:
        save_png(sheet, target)
    return sheet is not None


def samples_of(run: Run) -> np.ndarray | None:
    """Load the final samples of a run, uint8 ``(N, C, H, W)``; None if it has none."""
    return _images(run, "final.npy")


def real_of(run: Run) -> np.ndarray | None:
    """Load the real images that a run keeps beside its samples, uint8 ``(N, C, H, W)``; None if it has none."""
    return _images(run, "real.npy")


def _images(run: Run, name: str) -> np.ndarray | None:
    path = run.folder.samples / name
    if not path.is_file():
        return None
    try:
        return read_images(path)
    except InputError as error:
        print(f"genlab: not shown: {error}", file=sys.stderr)
        return None


def read_images(path: Path) -> np.ndarray | None:
    """Read images from a ``.npy`` file, uint8 ``(N, C, H, W)``; None if it holds something else, such as points.

    Raises:
        InputError: if the file is missing or damaged.
    """
    images = read_array(path)
    match images.shape:
        case (_, _, _, _) if images.dtype == np.uint8 and images.size:
            return images
    return None


def as_picture(image: np.ndarray) -> Image.Image:
    """Convert an image, uint8 ``(C, H, W)``, to RGB; if C is neither 1 nor 3, the channels are averaged."""
    pixels = image if len(image) in (1, 3) else image.mean(0, keepdims=True).astype(np.uint8)
    return Image.fromarray(np.ascontiguousarray(np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)))
