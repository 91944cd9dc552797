"""Folders of made-up images."""

from pathlib import Path

import numpy as np
from PIL import Image


def write_images(folder: Path, count: int, size: tuple[int, int] = (32, 32), mode: str = "RGB", seed: int = 0) -> None:
    """``count`` PNGs of coloured rectangles on noise, ``(width, height)``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    width, height = size
    for i in range(count):
        pixels = rng.integers(0, 60, (height, width, 3), dtype=np.uint8)
        x, y = rng.integers(0, width // 2), rng.integers(0, height // 2)
        pixels[y : y + height // 2, x : x + width // 2] = rng.integers(100, 256, 3)
        Image.fromarray(pixels).convert(mode).save(folder / f"{i:04d}.png")
