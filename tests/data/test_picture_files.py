"""Reading of single image files: the pixels that a viewer shows, or one line that says why there are none."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from genlab.data.picture_files import DARK, FIRST_FRAME, OPAQUE, SCALED, TURNED, read_image, suffixes
from genlab.errors import InputError
from support.picture_files import (
    COLOUR,
    COLOUR_ALPHA,
    GREY,
    GREY_ALPHA,
    PALETTE,
    READS_YCBCR,
    write_12_bits,
    write_bomb,
    write_png,
    write_tiff,
)

RNG = np.random.default_rng(0)
DEEP = RNG.integers(0, 65536, (6, 8)).astype(np.uint16)
AS_8_BITS = np.round(DEEP / 257)
# A picture that differs from itself in each turned or mirrored form, and that lossy formats keep apart.
PICTURE = np.zeros((16, 24, 3), np.uint8)
PICTURE[:8, :12], PICTURE[8:, 12:], PICTURE[:8, 12:] = (200, 30, 30), (20, 90, 220), (240, 240, 100)


Image.init()
QOI = ["qoi"] if "QOI" in Image.SAVE else []  # which earlier versions of Pillow only read


def grey(path: Path) -> np.ndarray:
    return read_image(path, 1)[0].numpy().astype(int)


def colour(path: Path) -> np.ndarray:
    return read_image(path, 3).permute(1, 2, 0).numpy().astype(int)


def done_to(path: Path) -> list[str]:
    done: list[str] = []
    read_image(path, 3, done=done)
    return done


# -- more than 8 bits --------------------------------------------------------------------------------------------------

OF_16_BITS: dict[str, Callable[[Path], object]] = {
    "a.png": lambda path: write_png(path, [row.astype(">u2").tobytes() for row in DEEP], 8, 16, GREY),
    "little.tif": lambda path: write_tiff(path, 8, 6, DEEP.tobytes(), 16),
    "big.tif": lambda path: write_tiff(path, 8, 6, DEEP.astype(">u2").tobytes(), 16, order=">"),
    "packed.tif": lambda path: Image.fromarray(DEEP).save(path, compression="tiff_lzw"),
    "a.jp2": lambda path: Image.fromarray(DEEP).save(path),
    "a.pgm": lambda path: path.write_bytes(b"P5 8 6 65535\n" + DEEP.astype(">u2").tobytes()),
    "plain.pgm": lambda path: path.write_text("P2 8 6 65535\n" + " ".join(map(str, DEEP.ravel()))),
}


@pytest.mark.parametrize("name", OF_16_BITS)
def test_16_bits_are_scaled_to_8(tmp_path: Path, name: str) -> None:
    OF_16_BITS[name](tmp_path / name)
    assert np.array_equal(grey(tmp_path / name), AS_8_BITS)
    assert np.array_equal(colour(tmp_path / name), np.repeat(AS_8_BITS[..., None], 3, 2))
    assert done_to(tmp_path / name) == [SCALED]


def test_levels_of_8_bits_are_found_again_in_16(tmp_path: Path) -> None:
    levels = np.arange(256, dtype=np.uint16).reshape(16, 16)
    Image.fromarray(levels * 257).save(tmp_path / "a.png")
    assert np.array_equal(grey(tmp_path / "a.png"), levels)


@pytest.mark.parametrize("highest", [100, 1000, 4095])
def test_the_highest_value_of_a_pgm_is_white(tmp_path: Path, highest: int) -> None:
    values = RNG.integers(0, highest + 1, (4, 6))
    kind = np.uint8 if highest < 256 else np.dtype(">u2")
    (tmp_path / "a.pgm").write_bytes(f"P5 6 4 {highest}\n".encode() + values.astype(kind).tobytes())
    assert np.abs(grey(tmp_path / "a.pgm") - values / highest * 255).max() <= 0.5


def test_12_bits_of_a_tiff_are_scaled_by_their_own_range(tmp_path: Path) -> None:
    values = RNG.integers(0, 4096, (4, 6))
    write_12_bits(tmp_path / "a.tif", values)
    assert np.array_equal(grey(tmp_path / "a.tif"), np.round(values / 4095 * 255))


def test_a_tiff_in_which_zero_is_white_is_not_a_negative(tmp_path: Path) -> None:
    write_tiff(tmp_path / "deep.tif", 8, 6, DEEP.tobytes(), 16, white_is_zero=True)
    assert np.array_equal(255 - grey(tmp_path / "deep.tif"), AS_8_BITS)
    eight = (DEEP >> 8).astype(np.uint8)
    write_tiff(tmp_path / "eight.tif", 8, 6, eight.tobytes(), 8, white_is_zero=True)
    assert np.array_equal(255 - grey(tmp_path / "eight.tif"), eight)


def test_colours_of_16_bits_are_those_of_8(tmp_path: Path) -> None:
    values = RNG.integers(0, 65536, (4, 6, 3)).astype(">u2")
    write_png(tmp_path / "a.png", [row.tobytes() for row in values], 6, 16, COLOUR)
    assert np.abs(colour(tmp_path / "a.png") - values / 257).max() < 1
    (tmp_path / "a.ppm").write_bytes(b"P6 6 4 65535\n" + values.tobytes())
    assert np.abs(colour(tmp_path / "a.ppm") - values / 257).max() < 1


@pytest.mark.parametrize(
    ("values", "sample_format", "said"),
    [
        ((DEEP / 65535).astype(np.float32), 3, "floating-point values"),
        ((DEEP * 1e3).astype(np.float32), 3, "floating-point values"),
        (DEEP.astype(np.int16), 2, "signed integers"),
        (DEEP.astype(np.int8), 2, "signed integers"),
        (DEEP.astype(np.int32), 2, "signed integers"),
        (DEEP.astype(np.uint32), 1, "integers of 32 bits"),
    ],
)
def test_values_without_a_range_are_refused_by_name(
    tmp_path: Path, values: np.ndarray, sample_format: int, said: str
) -> None:
    write_tiff(tmp_path / "a.tif", 8, 6, values.tobytes(), 8 * values.itemsize, sample_format=sample_format)
    with pytest.raises(InputError, match=rf"a\.tif holds {said}.*convert it to integers of 8 or 16 bits"):
        read_image(tmp_path / "a.tif", 1)


def test_a_float_map_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "a.pfm").write_bytes(b"Pf 8 6 -1.0\n" + (DEEP / 65535).astype(np.float32).tobytes())
    with pytest.raises(InputError, match="holds floating-point values"):
        read_image(tmp_path / "a.pfm", 3)


def test_12_bits_in_a_file_of_16_are_said_to_be_dark(tmp_path: Path) -> None:
    Image.fromarray(DEEP >> 4).save(tmp_path / "a.png")
    assert done_to(tmp_path / "a.png") == [SCALED, DARK]
    Image.fromarray(DEEP * 0).save(tmp_path / "black.png")
    assert done_to(tmp_path / "black.png") == [SCALED]


# -- as they look ------------------------------------------------------------------------------------------------------

# How a camera that was held so stores an upright picture, by EXIF's number.
STORED: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    1: lambda a: a,
    2: np.fliplr,
    3: lambda a: np.rot90(a, 2),
    4: np.flipud,
    5: lambda a: np.rot90(np.fliplr(a), 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: np.rot90(np.fliplr(a), -1),
    8: lambda a: np.rot90(a, -1),
}


@pytest.mark.parametrize("orientation", STORED)
def test_pictures_are_turned_as_exif_says(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    stored = Image.fromarray(np.ascontiguousarray(STORED[orientation](PICTURE)))
    how = {"png": {}, "tif": {}, "webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}
    for suffix, options in how.items():
        path = tmp_path / f"a.{suffix}"
        stored.save(path, exif=exif, **options)
        assert np.abs(colour(path) - PICTURE).mean() < 3, suffix
        if suffix != "tif":  # which Pillow turns by itself
            assert done_to(path) == ([TURNED] if orientation > 1 else [])


@pytest.mark.parametrize("orientation", STORED)
def test_grey_tiffs_are_turned_too(tmp_path: Path, orientation: int) -> None:
    """Those without compression, which Pillow would map into memory."""
    exif = Image.Exif()
    exif[274] = orientation
    for values in (DEEP, (DEEP >> 8).astype(np.uint8)):
        Image.fromarray(np.ascontiguousarray(STORED[orientation](values))).save(tmp_path / "a.tif", exif=exif)
        assert np.array_equal(grey(tmp_path / "a.tif"), AS_8_BITS if values is DEEP else values)


def test_a_deep_picture_is_turned_and_fitted_afterwards(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.ascontiguousarray(np.rot90(DEEP))).save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(grey(tmp_path / "a.png"), AS_8_BITS)
    assert np.array_equal(read_image(tmp_path / "a.png", 1, (6, 8))[0].numpy(), AS_8_BITS)


def test_damaged_exif_data_leaves_the_picture_as_it_is_stored(tmp_path: Path) -> None:
    for name, exif in (("a.png", b"Exif\0\0garbage"), ("b.png", b"Exif\0\0II*\0\x08\0\0\0\xff\xff"), ("c.png", b"")):
        Image.fromarray(PICTURE).save(tmp_path / name, exif=exif)
        assert np.array_equal(colour(tmp_path / name), PICTURE)


@pytest.mark.parametrize("suffix", ["png", "webp", "tif", "jp2", *QOI])
def test_transparency_is_laid_over_white(tmp_path: Path, suffix: str) -> None:
    rgba = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    rgba[0, 0], rgba[15, 23] = (7, 8, 9, 0), (10, 10, 10, 128)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(rgba).save(path, **({"lossless": True, "exact": True} if suffix == "webp" else {}))
    found = colour(path)
    assert found[0, 0].tolist() == [255, 255, 255]
    assert found[15, 23].tolist() == [132, 132, 132]
    assert np.array_equal(found[1:15], PICTURE[1:15])
    assert done_to(path) == [OPAQUE]
    assert (grey(path)[0, 0], grey(path)[15, 23]) == (255, 132)


def test_what_lies_under_transparent_pixels_is_not_seen(tmp_path: Path) -> None:
    for name, under in (("a.png", 0), ("b.png", 90)):
        rgba = np.full((4, 4, 4), under, np.uint8)
        rgba[1:3, 1:3], rgba[..., 3] = 200, 0
        rgba[1:3, 1:3, 3] = 255
        Image.fromarray(rgba).save(tmp_path / name)
    assert np.array_equal(colour(tmp_path / "a.png"), colour(tmp_path / "b.png"))


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_grey_with_transparency(tmp_path: Path, suffix: str) -> None:
    Image.fromarray(np.array([[[60, 0], [60, 128], [60, 255]]], np.uint8), "LA").save(tmp_path / f"a.{suffix}")
    assert grey(tmp_path / f"a.{suffix}").tolist() == [[255, 157, 60]]


TRANSPARENT_COLOUR = {
    # What is stored, what is transparent, and the grey levels that are seen.
    "1 bit": ([bytes([0b01000000])], 2, 1, GREY, b"\0\0", [255, 255]),
    "1 bit, white": ([bytes([0b01000000])], 2, 1, GREY, b"\0\1", [0, 255]),
    "2 bits": ([bytes([0b00011011])], 4, 2, GREY, b"\0\1", [0, 255, 170, 255]),
    "4 bits": ([bytes([0x03, 0x5F])], 4, 4, GREY, b"\0\3", [0, 255, 85, 255]),
    "8 bits": ([bytes([10, 20, 30])], 3, 8, GREY, b"\0\x14", [10, 255, 30]),
    "16 bits": ([np.array([257, 514, 515], ">u2").tobytes()], 3, 16, GREY, b"\2\2", [1, 255, 2]),
    "colour": ([bytes([9, 9, 9, 5, 5, 5])], 2, 8, COLOUR, b"\0\5\0\5\0\5", [9, 255]),
}


@pytest.mark.parametrize("name", TRANSPARENT_COLOUR)
def test_one_transparent_colour(tmp_path: Path, name: str) -> None:
    rows, width, bits, kind, transparent, seen = TRANSPARENT_COLOUR[name]
    write_png(tmp_path / "a.png", rows, width, bits, kind, (b"tRNS", transparent))
    assert grey(tmp_path / "a.png").tolist() == [seen]
    assert OPAQUE in done_to(tmp_path / "a.png")


def test_a_transparent_colour_that_cannot_be_compared_is_refused(tmp_path: Path) -> None:
    row = np.array([0, 0, 0, 99, 99, 99], ">u2").tobytes()
    write_png(tmp_path / "a.png", [row], 2, 16, COLOUR, (b"tRNS", b"\0" * 6))
    with pytest.raises(InputError, match="has a transparent colour of 16 bits: save it with 8 bits"):
        read_image(tmp_path / "a.png", 3)


@pytest.mark.parametrize("alphas", [bytes([0, 128, 255]), bytes([255, 0, 255])])
def test_palettes_with_transparency(tmp_path: Path, alphas: bytes) -> None:
    palette = bytes([0, 0, 0, 100, 100, 100, 200, 200, 200])
    write_png(tmp_path / "a.png", [bytes([0, 1, 2])], 3, 8, PALETTE, (b"PLTE", palette), (b"tRNS", alphas))
    expected = [round(level * a / 255 + 255 * (1 - a / 255)) for level, a in zip((0, 100, 200), alphas, strict=True)]
    assert grey(tmp_path / "a.png").tolist() == [expected]


def test_16_bits_with_transparency(tmp_path: Path) -> None:
    values = np.array([[[30 * 257, 0], [30 * 257, 65535]]], ">u2")
    write_png(tmp_path / "grey.png", [values.tobytes()], 2, 16, GREY_ALPHA)
    assert grey(tmp_path / "grey.png").tolist() == [[255, 30]]
    values = np.array([[[7710, 7710, 7710, 0], [7710, 7710, 7710, 65535]]], ">u2")
    write_png(tmp_path / "colour.png", [values.tobytes()], 2, 16, COLOUR_ALPHA)
    assert grey(tmp_path / "colour.png").tolist() == [[255, 30]]


def test_a_gif_with_transparency(tmp_path: Path) -> None:
    rgba = np.dstack([PICTURE, np.full(PICTURE.shape[:2], 255, np.uint8)])
    rgba[0, 0, 3] = 0
    Image.fromarray(rgba).save(tmp_path / "a.gif")
    assert colour(tmp_path / "a.gif")[0, 0].tolist() == [255, 255, 255]
    assert colour(tmp_path / "a.gif")[15, 23].tolist() == [20, 90, 220]


MODES = ["1", "L", "P", "RGB", "CMYK", "LAB", "PA", "LA", "RGBA", *(["YCbCr"] if READS_YCBCR else [])]


@pytest.mark.skipif(READS_YCBCR, reason="this Pillow reads them")
def test_a_tiff_that_pillow_cannot_read_is_refused_in_one_line(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).convert("YCbCr").save(tmp_path / "a.tif")
    with pytest.raises(InputError, match=r"a\.tif cannot be read as an image \(.*\): repair it or take it away$"):
        colour(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", MODES)
def test_modes_without_transparent_pixels_keep_their_colours(tmp_path: Path, mode: str) -> None:
    picture = Image.fromarray(PICTURE).convert("RGBA" if mode == "PA" else "RGB").convert(mode)
    picture.save(tmp_path / "a.tif")
    expected = np.array(picture.convert("RGB")).astype(int)
    assert np.abs(colour(tmp_path / "a.tif") - expected).max() <= 2
    assert np.abs(grey(tmp_path / "a.tif") - np.array(Image.fromarray(expected.astype("u1")).convert("L"))).max() <= 2
    assert done_to(tmp_path / "a.tif") == []


@pytest.mark.parametrize("suffix", ["gif", "png", "webp", "tif"])
def test_the_first_of_several_frames_is_read_and_said(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.full((6, 6, 3), k, np.uint8)) for k in (10, 100, 200)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    assert np.abs(colour(tmp_path / f"a.{suffix}") - 10).max() <= 1
    assert done_to(tmp_path / f"a.{suffix}") == [FIRST_FRAME]


def outcome(path: Path) -> tuple[str, np.ndarray | None]:
    """The line that refuses a file, or its pixels."""
    try:
        return "", colour(path)
    except InputError as error:
        return str(error), None


# -- damage ------------------------------------------------------------------------------------------------------------


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    write_bomb(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png is too large an image \(.*400000000 pixels.*shrink it"):
        read_image(tmp_path / "a.png", 3)


@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "gif", "tif", "bmp", "jp2", "ppm", *QOI])
def test_a_file_that_was_cut_is_one_line(tmp_path: Path, suffix: str) -> None:
    """Or, if only its end is missing that holds no pixels, the picture itself."""
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(RNG.integers(0, 256, (20, 30, 3)).astype(np.uint8)).save(path)
    whole, content = colour(path), path.read_bytes()
    for share in (0, 0.02, 0.1, 0.4, 0.7, 0.9, 0.97):
        path.write_bytes(content[: int(share * len(content))])
        said, found = outcome(path)
        if found is None:
            assert said.startswith(f"{path} cannot be read as an image (")
            assert "\n" not in said
        else:
            assert np.array_equal(found, whole), share


def test_the_content_decides_and_not_the_suffix(tmp_path: Path) -> None:
    Image.fromarray(PICTURE).save(tmp_path / "a.bmp")
    (tmp_path / "a.bmp").rename(tmp_path / "a.jpg")
    assert np.array_equal(colour(tmp_path / "a.jpg"), PICTURE)
    (tmp_path / "b.png").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")  # would start Ghostscript
    with pytest.raises(InputError, match="its content is of no format that is read"):
        read_image(tmp_path / "b.png", 3)


def test_suffixes_of_all_formats_that_are_read() -> None:
    assert {".png", ".apng", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".bmp", ".gif", ".tif", ".tiff"} <= suffixes()
    assert {".ppm", ".pgm", ".pbm", ".pnm", ".jp2", ".j2k", ".qoi"} <= suffixes()
    assert not {".eps", ".ps", ".pdf", ".wmf", ".mpg", ".h5", ".tga"} & suffixes()
