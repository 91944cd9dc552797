"""Pictures of a page: made small, encoded once, and kept within a number of bytes."""

import base64
import io
import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence

from genlab.comparison.picture import as_picture, read_images
from genlab.errors import InputError
from genlab.pictures.files import opened_picture

BUDGET = 6_000_000  # bytes of all pictures of a page together; embedding makes them a third longer
MAX_FILM = 300_000  # bytes of a film that is taken as it is
MAX_FRAMES = 40  # of a film that is made smaller
MAX_TEXT = 3_000  # signs of a text

Stamp = tuple[int, int]


def as_data(content: bytes, kind: str) -> str:
    """Embed a picture in an address, so that the page needs no other file.

    Args:
        content: encoded picture.
        kind: its format, such as ``"webp"``.
    """
    return f"data:image/{kind};base64,{base64.b64encode(content).decode()}"


class Gallery:
    """Pictures for a page. A file that has not changed is read once, also if a page is made again and again.

    Args:
        place: function that stores an encoded picture of a format, and gives its address on the page.
        budget: upper limit on the bytes of all pictures of one page together.
    """

    def __init__(self, place: Callable[[bytes, str], str] = as_data, budget: int = BUDGET) -> None:
        self._place, self._budget, self._left = place, budget, budget
        self._found: dict[tuple[Path, int], tuple[Stamp, tuple[int, str] | None]] = {}
        self._left_out = set[Path]()

    def begin(self) -> None:
        """Begin a page: nothing is spent yet, and nothing left out."""
        self._left = self._budget
        self._left_out.clear()

    @property
    def left_out(self) -> int:
        """The number of files of this page for which there was no room."""
        return len(self._left_out)

    def picture(self, path: Path, side: int) -> str | None:
        """Give the address of a picture's file, or of an array's images in a square grid.

        Args:
            path: PNG or ``.npy`` file, uint8 ``(N, C, H, W)``.
            side: upper limit on the height and width, in pixels.

        Returns:
            The address; None if the file is missing or unreadable, holds no images, or there is no room for it.
        """
        return self._kept(path, side, _sheet if path.suffix == ".npy" else _picture)

    def film(self, path: Path, side: int) -> str | None:
        """Give the address of a film; None if the file is missing or unreadable, or there is no room for it.

        Args:
            path: GIF file.
            side: upper limit on the height and width of a film that takes much room, in pixels.
        """
        return self._kept(path, side, _film)

    def _kept(self, path: Path, side: int, encode: Callable[[Path, int], tuple[bytes, str] | None]) -> str | None:
        try:
            about = path.stat()
        except OSError:
            return None
        if self._left == 0:  # nothing else is read
            self._left_out.add(path)
            return None
        stamp = about.st_mtime_ns, about.st_size
        before = self._found.get((path, side))
        if before is None or before[0] != stamp:
            encoded = _tried(encode, path, side)
            before = stamp, encoded and (len(encoded[0]), self._place(*encoded))
            self._found[path, side] = before
        if before[1] is None:
            return None
        size, address = before[1]
        if size > self._left:
            self._left = 0
            self._left_out.add(path)
            return None
        self._left -= size
        return address


def read_text(path: Path) -> str | None:
    """Read the beginning of a text; None if the file is missing or unreadable."""
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return text if len(text) <= MAX_TEXT else f"{text[:MAX_TEXT]}…"


def _tried(encode: Callable[[Path, int], tuple[bytes, str] | None], path: Path, side: int) -> tuple[bytes, str] | None:
    try:
        return encode(path, side)
    except InputError as error:  # for example, a file that is only partly copied
        print(f"genlab: left out of the page: {error}", file=sys.stderr)
        return None


def _picture(path: Path, side: int) -> tuple[bytes, str]:
    with opened_picture(path, ("PNG",)) as image:
        return _encoded(image.convert("RGB"), side)


def _sheet(path: Path, side: int) -> tuple[bytes, str] | None:
    """Arrange images, uint8 ``(N, C, H, W)``, in a square grid at their original size; the page enlarges them."""
    images = read_images(path)
    if images is None:
        return None
    columns = math.ceil(math.sqrt(len(images)))
    height, width = images.shape[2:]
    size = columns * (width + 1) + 1, -(-len(images) // columns) * (height + 1) + 1
    sheet = Image.new("RGB", size, (128, 128, 128))
    for i, image in enumerate(images):
        sheet.paste(as_picture(image), (1 + i % columns * (width + 1), 1 + i // columns * (height + 1)))
    return _encoded(sheet, side)


def _film(path: Path, side: int) -> tuple[bytes, str]:
    with opened_picture(path, ("GIF",)) as image:
        num = getattr(image, "n_frames", 1)
        if path.stat().st_size <= MAX_FILM:
            return path.read_bytes(), "gif"
        chosen = {*np.linspace(0, num - 1, min(num, MAX_FRAMES)).round().astype(int)}
        frames, milliseconds = list[Image.Image](), 0.0
        for i, frame in enumerate(ImageSequence.Iterator(image)):  # one object, which changes
            milliseconds += frame.info.get("duration", 100)
            if i in chosen:
                frames.append(_within(frame.convert("RGB"), side))
        first, *others = frames
        each = round(milliseconds / len(frames))
        content = io.BytesIO()
        first.save(
            content, format="WEBP", save_all=True, append_images=others, duration=each, loop=0, quality=60, method=0
        )
        return content.getvalue(), "webp"


def _encoded(image: Image.Image, side: int) -> tuple[bytes, str]:
    content = io.BytesIO()
    _within(image, side).save(content, format="WEBP", quality=75, method=2)
    return content.getvalue(), "webp"


def _within(image: Image.Image, side: int) -> Image.Image:
    if max(image.size) <= side:
        return image
    scale = side / max(image.size)
    size = (max(1, round(scale * image.width)), max(1, round(scale * image.height)))
    return image.resize(size, Image.Resampling.BOX)
