"""Files of pictures, films and arrays: all written atomically, and read with one line if they are damaged."""

import contextlib
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from zipfile import BadZipFile

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.pictures.labels import captioned


def film(
    frames: Sequence[Path | Image.Image],
    path: Path,
    max_frames: int = 100,
    seconds: float = 8.0,
    captions: Sequence[str] = (),
) -> None:
    """Write pictures as an animated GIF.

    Args:
        frames: pictures, or paths of their files.
        path: path of the GIF.
        max_frames: upper limit on the number of frames; of more pictures, evenly spaced ones are chosen.
        seconds: duration of the film before its last frame, unless frames would be shorter than 40 ms.
        captions: lines of text above the pictures, one for each; empty for none.
    """
    chosen = [round(i) for i in np.linspace(0, len(frames) - 1, min(max_frames, len(frames)))]
    opened = [frame if isinstance(frame := frames[i], Image.Image) else Image.open(frame) for i in chosen]
    if captions:
        opened = [captioned(frame, captions[i], captions) for i, frame in zip(chosen, opened, strict=True)]
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


@contextlib.contextmanager
def opened_picture(
    path: Path, formats: tuple[str, ...] | None = None, content: bytes | None = None
) -> Iterator[ImageFile.ImageFile]:
    """Open a picture's file, and explain in one line whatever goes wrong with it until it is closed.

    Args:
        path: path of the file.
        formats: Pillow's names of the formats to try; None for all.
        content: the file's bytes, if ``path`` only names them; None to read them.

    Raises:
        InputError: if the file is missing, damaged, of no known format or too large.
    """
    try:
        if (path.stat().st_size if content is None else len(content)) == 0:
            raise OSError("the file is empty")
        # Not by its path: Pillow would map some TIFFs into memory, and then turns those wrongly that lie on their side.
        opened = path.open("rb") if content is None else io.BytesIO(content)
        with opened as stream, Image.open(stream, formats=formats) as file:
            yield file
    except InputError:
        raise
    except (Image.DecompressionBombError, MemoryError) as error:
        reason = str(error).partition(",")[0] or "the memory does not hold it"
        raise InputError(f"{path} is too large an image ({reason}): shrink it or take it away") from error
    except UnidentifiedImageError as error:
        reason = "its content is of no format that is read"
        raise InputError(f"{path} cannot be read as an image ({reason}): convert it or take it away") from error
    except Exception as error:  # decoders of damaged files raise errors of any class
        reason = " ".join(str(getattr(error, "strerror", None) or error).split()) or type(error).__name__
        raise InputError(f"{path} cannot be read as an image ({reason}): repair it or take it away") from error


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
        with np.errstate(over="ignore"):
            mapped = np.load(path, mmap_mode="r", allow_pickle=False)
        if not isinstance(mapped, np.ndarray) or mapped.dtype.kind not in "biuf":
            raise ValueError(f"it holds {getattr(mapped, 'dtype', 'several arrays')}, not one array of numbers")
        return np.array(mapped, order="C")
    except MemoryError as error:
        raise InputError(f"{path} does not fit in this machine's memory") from error
    except (OSError, ValueError, EOFError, OverflowError, SyntaxError, TypeError, BadZipFile) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"{path} cannot be read as a NumPy array ({reason})") from error
