"""Files of pictures, films and arrays, all written atomically."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from genlab.errors import InputError
from genlab.machine.files import write_atomically


def film(frames: Sequence[Path | Image.Image], path: Path, max_frames: int = 100, seconds: float = 8.0) -> None:
    """Write pictures as an animated GIF.

    Args:
        frames: pictures, or paths of their files.
        path: path of the GIF.
        max_frames: upper limit on the number of frames; of more pictures, evenly spaced ones are chosen.
        seconds: duration of the film before its last frame, unless frames would be shorter than 40 ms.
    """
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
    """Write a picture as PNG."""
    content = io.BytesIO()
    image.save(content, format="PNG")
    write_atomically(path, content.getvalue())


def save_array(array: np.ndarray, path: Path) -> None:
    """Write an array as ``.npy``, for other programs and for ``genlab compare``."""
    content = io.BytesIO()
    np.save(content, array)
    write_atomically(path, content.getvalue())


def read_array(path: Path) -> np.ndarray:
    """Read an array of numbers from a ``.npy`` file.

    Raises:
        InputError: if the file is missing or damaged, holds anything but numbers, or does not fit in memory.
    """
    try:
        # Mapped first: a header that claims more than the file holds is found before anything is allocated.
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.ndarray) or mapped.dtype.kind not in "biuf":
            raise ValueError(f"it holds {getattr(mapped, 'dtype', 'several arrays')}, not one array of numbers")
        return np.array(mapped, order="C")
    except MemoryError as error:
        raise InputError(f"{path} does not fit in this machine's memory") from error
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, TypeError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"{path} cannot be read as a NumPy array ({reason})") from error
