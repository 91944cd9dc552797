"""Reading of a picture from its file as a viewer shows it: upright, opaque, with eight bits per channel."""

import functools
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageFile, ImageOps, features
from torch import Tensor

from genlab.errors import InputError
from genlab.pictures.files import opened_picture

# Formats whose files Pillow recognizes by their content, and what it must be built with to read them. Formats without
# a signature are not among them, because damaged files of any kind would pass for theirs.
_FORMATS = {
    "PNG": None,
    "JPEG": "jpg",
    "WEBP": "webp",
    "BMP": None,
    "GIF": None,
    "TIFF": None,
    "PPM": None,
    "JPEG2000": "jpg_2000",
    "AVIF": "avif",
    "QOI": None,
}
READ_AS = "upright as EXIF says, transparency over white, 16 bits scaled to 8"  # in protocols

# What had to be done to show a picture, in the words of the line that counts such pictures.
TURNED = "turned as EXIF says"
OPAQUE = "with transparency, laid over white"
SCALED = "of more than 8 bits, scaled to 8"
DARK = "of 16 bits, all of whose values are below a sixteenth of white: if they are of 8 to 12 bits, stretch them first"
FIRST_FRAME = "with several frames, of which only the first is read"

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 258, 262, 339  # tags of TIFF
_WHITE_IS_ZERO, _UNSIGNED = 0, 1  # their values


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    there = features.get_supported()
    return tuple(name for name, needs in _FORMATS.items() if name in Image.OPEN and (needs is None or needs in there))


@functools.cache
def suffixes() -> frozenset[str]:
    """Give the suffixes, in lower case, of the picture files that this installation of Pillow reads."""
    of_jpeg = ("MPO",) if "JPEG" in _formats() else ()  # JPEGs with previews, which Pillow opens as JPEG
    readable = {*_formats(), *of_jpeg}
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in readable)


def read_image(
    path: Path,
    channels: int,
    size: tuple[int, int] | None = None,
    done: list[str] | None = None,
    content: bytes | None = None,
) -> Tensor:
    """Read an image file as uint8 ``(C, H, W)``, as a viewer shows it.

    The image is turned upright as its EXIF data says. Transparency is laid over white. Grey levels of more than 8 bits
    are scaled to 8: a value v of 16 bits becomes v / 257, rounded. Of several frames or pages the first is read. The
    format is recognized by the content, whatever the suffix. Colour profiles are not applied.

    Args:
        path: path of the file.
        channels: number of channels C: 1 for grey, 3 for colour.
        size: ``(H, W)`` to crop and resize the image to; ``None`` keeps its size.
        done: list that receives what had to be done to show the image, such as :data:`TURNED`.
        content: the file's bytes, if ``path`` only names them, as that of a picture in an archive.

    Raises:
        InputError: if the file is not a readable image, or holds values without a known range, such as floats.
    """
    done = [] if done is None else done
    with opened_picture(path, _formats(), content) as file:
        if file.format != "MPO" and getattr(file, "is_animated", False):  # an MPO's other frames are previews
            done.append(FIRST_FRAME)
        _correct_transparent_colour(file, path)
        file.load()
        image = _upright(_opaque(_eight_bits(file, path, done), done), file, done)
        image = image.convert("RGB") if image.mode == "LAB" else image  # which is not converted to grey at once
        image = image.convert("L" if channels == 1 else "RGB")
        if size is not None and image.size != size[::-1]:
            image = ImageOps.fit(image, size[::-1], Image.Resampling.LANCZOS)
        pixels = np.array(image)
    return torch.from_numpy(pixels).reshape(*pixels.shape[:2], channels).permute(2, 0, 1).contiguous()


def is_grey(path: Path) -> bool:
    """Tell whether an image file holds grey levels only, without decoding it.

    Raises:
        InputError: if the file is not a readable image.
    """
    with opened_picture(path, _formats()) as file:
        return file.mode in ("1", "L", "LA", "La", "I", "F") or file.mode.startswith("I;16")


def _correct_transparent_colour(file: ImageFile.ImageFile, path: Path) -> None:
    """Bring the transparent colour of a PNG to the scale of the pixels, which Pillow scales to 8 bits without it."""
    colour, stored = file.info.get("transparency"), {str(tile[3]) for tile in file.tile}
    if isinstance(colour, tuple) and stored == {"RGB;16B"}:
        raise InputError(f"{path} has a transparent colour of 16 bits: save it with 8 bits, or with an alpha channel")
    for bits in (2, 4):
        if isinstance(colour, int) and stored == {f"L;{bits}"}:
            file.info["transparency"] = colour * 255 // (2**bits - 1)


def _eight_bits(file: ImageFile.ImageFile, path: Path, done: list[str]) -> Image.Image:
    """Scale what ``convert`` would clip; refuse what has no known range."""
    tags = getattr(file, "tag_v2", {}) if file.format == "TIFF" else {}
    unsigned = set(tags.get(_SAMPLE_FORMAT, (_UNSIGNED,))) == {_UNSIGNED}
    if file.mode == "F":
        raise _no_range(path, "floating-point values")
    if not unsigned:
        raise _no_range(path, "signed integers")
    if file.mode == "I" and file.format not in ("PNG", "PPM"):  # which are of 16 bits at most
        raise _no_range(path, "integers of 32 bits")
    if file.mode != "I" and not file.mode.startswith("I;16"):
        return file
    done.append(SCALED)
    highest = (1 << tags.get(_BITS_PER_SAMPLE, (16,))[0]) - 1
    values = np.asarray(file).astype(np.int64)
    if 0 < values.max() <= highest // 16:
        done.append(DARK)
    grey = ((values * 510 + highest) // (2 * highest)).clip(0, 255).astype(np.uint8)  # 255 v / highest, rounded
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    image = Image.fromarray(grey)
    transparent = file.info.get("transparency")
    if isinstance(transparent, int):
        image.putalpha(Image.fromarray(np.where(values == transparent, 0, 255).astype(np.uint8)))
    return image


def _no_range(path: Path, what: str) -> InputError:
    return InputError(
        f"{path} holds {what}, and no file says which of them are black and white: convert it to integers of 8 or 16 "
        "bits, from 0 (black) to 255 or 65535 (white)"
    )


def _opaque(image: Image.Image, done: list[str]) -> Image.Image:
    """Lay a picture with transparent pixels over white."""
    if not image.has_transparency_data:
        return image
    image = image.convert("LA") if image.mode == "La" else image
    image = image.convert("RGBA")
    if image.getchannel("A").getextrema() == (255, 255):
        return image
    done.append(OPAQUE)
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


def _upright(image: Image.Image, file: ImageFile.ImageFile, done: list[str]) -> Image.Image:
    try:
        turn = _TURNS.get(file.getexif().get(ExifTags.Base.Orientation, 1))
    except Exception:  # damaged EXIF data: viewers show such a picture as it is stored
        return image
    if turn is None:
        return image
    done.append(TURNED)
    return image.transpose(turn)
