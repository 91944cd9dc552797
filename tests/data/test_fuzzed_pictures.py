"""Image files and folders of all kinds, drawn at random: the right pixels or one line, and nothing lost silently."""

import io
import re
import shutil
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image

from genlab.data.image_folder import ImageFolder
from genlab.data.image_sets import FolderImages
from genlab.data.picture_files import read_image, suffixes
from genlab.errors import InputError
from support.picture_files import READS_YCBCR, write_tiff

MANY = settings(max_examples=500, deadline=None, suppress_health_check=list(HealthCheck))
LOSSLESS = {"PNG", "TIFF", "BMP", "GIF", "PPM", "QOI", "JPEG2000", "WEBP"}
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"]
TURNS = [None, Image.Transpose.FLIP_LEFT_RIGHT, Image.Transpose.ROTATE_180, Image.Transpose.FLIP_TOP_BOTTOM,
         Image.Transpose.TRANSPOSE, Image.Transpose.ROTATE_270, Image.Transpose.TRANSVERSE,
         Image.Transpose.ROTATE_90]  # fmt: skip


SIGNATURES = [
    b"", b"\x89PNG\r\n\x1a\n", b"GIF89a", b"P5 ", b"P6\n", b"BM", b"II*\0", b"MM\0*", b"\xff\xd8\xff",
    b"RIFF\0\0\0\0WEBPVP8 ", b"qoif", b"Pf 2 2 1\n", b"\0\0\0\x0cjP  \r\n\x87\n",
]  # fmt: skip


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield path
    shutil.rmtree(path)


@dataclass(frozen=True)
class Drawn:
    """A picture's file, and what a viewer shows of it; None if no file says what it shows."""

    content: bytes
    shown: np.ndarray | None
    tolerance: float
    what: str


@st.composite
def drawn(draw: st.DrawFn) -> Drawn:
    mode, form = draw(st.sampled_from(MODES)), draw(st.sampled_from([*sorted(LOSSLESS), "JPEG", "AVIF"]))
    assume(READS_YCBCR or (mode, form) != ("YCbCr", "TIFF"))
    width, height = draw(st.sampled_from([1, 2, 3, 7, 16, 33])), draw(st.sampled_from([1, 2, 5, 16, 40]))
    seed, orientation = draw(st.integers(0, 2**32 - 1)), draw(st.sampled_from([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 77]))
    frames = draw(st.sampled_from([1, 1, 1, 3]))
    transparent = draw(st.booleans())
    rng = np.random.default_rng(seed)
    image = picture(mode, width, height, rng)
    options: dict[str, object] = {"lossless": True, "exact": True} if form == "WEBP" else {}
    if form in ("PNG", "TIFF", "WEBP", "JPEG", "AVIF") and orientation:
        exif = Image.Exif()
        exif[274] = orientation
        options["exif"] = exif
    else:
        orientation = 0
    if transparent and form == "PNG" and mode in ("P", "L", "RGB", "1"):
        colour = image.getpixel((0, 0))
        options["transparency"] = colour
    if frames > 1 and form in ("GIF", "PNG", "WEBP", "TIFF") and mode in ("L", "RGB", "RGBA", "P"):
        options |= {"save_all": True, "append_images": [picture(mode, width, height, rng)] * 2}
    content = io.BytesIO()
    try:
        image.save(content, form, **options)
    except (OSError, ValueError, KeyError, TypeError, NotImplementedError):  # a mode that this format does not have
        orientation, form, options = 0, "PNG", {}
        image = picture("RGB", width, height, rng)
        content = io.BytesIO()
        image.save(content, form)
    what = f"{form} {image.mode} {image.size} {sorted(options)} orientation {orientation}"
    return Drawn(content.getvalue(), shown(image, form, options, orientation), tolerance(form, image.mode), what)


def picture(mode: str, width: int, height: int, rng: np.random.Generator) -> Image.Image:
    if mode in ("I;16", "I"):
        values = rng.integers(0, 65536, (height, width))
        return Image.fromarray(values.astype(np.uint16 if mode == "I;16" else np.int32))
    if mode == "F":
        return Image.fromarray(rng.random((height, width)).astype(np.float32))
    if mode in ("LA", "RGBA", "PA"):
        pixels = rng.integers(0, 256, (height, width, 4)).astype(np.uint8)
        pixels[..., 3] = rng.choice([0, 128, 255], (height, width))
        return Image.fromarray(pixels).convert(mode)
    # Smooth, so that formats that lose something lose little.
    steps = np.linspace(rng.integers(0, 256, 3), rng.integers(0, 256, 3), height * width)
    return Image.fromarray(steps.reshape(height, width, 3).astype(np.uint8)).convert(mode)


def shown(image: Image.Image, form: str, options: dict[str, object], orientation: int) -> np.ndarray | None:
    """What a viewer shows, in plain arithmetic; None where the values have no range."""
    if image.mode in ("F", "I") and form not in ("PNG", "PPM", "GIF", "WEBP", "AVIF"):
        return None
    if image.mode == "F" and form in ("PPM", "PNG"):
        return None
    if form in ("GIF", "WEBP", "AVIF") and image.mode in ("I", "I;16", "F"):
        return np.array(0)  # which their writers cut off
    if image.mode in ("I;16", "I"):
        grey = np.round(np.asarray(image).astype(float) / 257)
        rgb = np.repeat(grey[..., None], 3, 2)
    else:
        rgba = np.asarray(as_rgba(image, form, options)).astype(float)
        alpha = rgba[..., 3:] / 255
        rgb = rgba[..., :3] * alpha + 255 * (1 - alpha)
    turn = TURNS[orientation - 1] if 1 < orientation <= 8 else None
    if turn is None:
        return rgb
    planes = [np.asarray(Image.fromarray(rgb[..., k].astype(np.float32)).transpose(turn)) for k in range(3)]
    return np.stack(planes, -1)


def as_rgba(image: Image.Image, form: str, options: dict[str, object]) -> Image.Image:
    if form in ("BMP", "PPM") and image.mode in ("RGBA", "LA", "PA"):  # which are stored without transparency
        return image.convert("RGB").convert("RGBA")
    if form == "GIF" and image.mode in ("RGBA", "LA", "PA"):
        content = io.BytesIO()
        image.save(content, form)
        return Image.open(content).convert("RGBA")
    if "transparency" in options:
        rgba = np.asarray(image.convert("RGB").convert("RGBA")).copy()
        stored = np.asarray(image)
        colour = np.asarray(options["transparency"])
        same = (stored == (colour > 0 if image.mode == "1" else colour)).reshape(*stored.shape[:2], -1).all(-1)
        rgba[..., 3] = np.where(same, 0, 255)
        return Image.fromarray(rgba)
    if image.mode in ("LAB", "CMYK", "YCbCr"):
        return image.convert("RGB").convert("RGBA")
    return image.convert("RGBA")


def tolerance(form: str, mode: str) -> float:
    if form in ("JPEG", "AVIF"):
        return 60
    return 6 if mode in ("YCbCr", "LAB", "CMYK") or form == "GIF" else 1


def outcome(path: Path, channels: int, size: tuple[int, int] | None = None) -> np.ndarray | str:
    try:
        pixels = read_image(path, channels, size)
    except InputError as error:
        said = str(error)
    else:
        said = ""
    if said:
        assert said.startswith(f"{path} ")
        assert "\n" not in said
        return said
    assert pixels.shape[0] == channels
    assert size is None or pixels.shape[1:] == size
    return pixels.permute(1, 2, 0).numpy().astype(float)


@pytest.mark.slow
@MANY
@given(file=drawn(), suffix=st.sampled_from([".png", ".jpg", ".tif", ".gif", ".webp", ".bmp"]))
def test_any_picture_is_read_as_it_looks(folder: Path, file: Drawn, suffix: str) -> None:
    path = folder / f"a{suffix}"
    path.write_bytes(file.content)
    found = outcome(path, 3)
    if file.shown is None:
        assert isinstance(found, str), file.what
        assert "convert it to integers of 8 or 16 bits" in found
        return
    assert not isinstance(found, str), (file.what, found)
    if file.shown.ndim == 0:
        return
    assert found.shape == file.shown.shape, file.what
    # Lossy formats lose what is fine; their mean shows whether a picture is turned, clipped or laid over black.
    error = np.abs(found - file.shown)
    assert error.mean() <= file.tolerance, (file.what, error.max())
    assert outcome(path, 1).shape == (*found.shape[:2], 1)
    assert outcome(path, 3, (9, 4)).shape == (9, 4, 3)


@pytest.mark.slow
@MANY
@given(
    file=drawn(),
    cut=st.floats(0, 1, allow_subnormal=False),
    flips=st.lists(st.tuples(st.floats(0, 1, allow_subnormal=False), st.integers(0, 255)), max_size=4),
    keep=st.booleans(),
)
def test_any_damage_is_one_line_or_the_picture(
    folder: Path, file: Drawn, cut: float, flips: list[tuple[float, int]], keep: bool
) -> None:
    path = folder / "a.png"
    path.write_bytes(file.content)
    whole = outcome(path, 3)
    content = bytearray(file.content if keep else file.content[: int(cut * len(file.content))])
    for place, value in flips if keep else ():
        content[min(int(place * len(content)), len(content) - 1)] = value
    path.write_bytes(bytes(content))
    found = outcome(path, 3)
    if not keep and not isinstance(found, str):  # what was cut off held no pixels
        assert not isinstance(whole, str)
        assert np.array_equal(found, whole), file.what


@pytest.mark.slow
@MANY
@given(content=st.binary(max_size=200), start=st.sampled_from(SIGNATURES))
def test_any_bytes_are_one_line(folder: Path, content: bytes, start: bytes) -> None:
    path = folder / "a.png"
    path.write_bytes(start + content)
    outcome(path, 3)


@pytest.mark.slow
@MANY
@given(
    bits=st.sampled_from([8, 16, 32, 64]),
    sample_format=st.sampled_from([1, 2, 3, 4]),
    order=st.sampled_from("<>"),
    white_is_zero=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_grey_tiff_is_scaled_or_refused(
    folder: Path, bits: int, sample_format: int, order: str, white_is_zero: bool, seed: int
) -> None:
    values = np.random.default_rng(seed).integers(0, 2 ** min(bits, 16), (4, 6))
    kinds = {1: "u", 2: "i", 3: "f", 4: "u"}
    if sample_format == 3 and bits < 16:
        return
    data = values.astype(np.dtype(f"{order}{kinds[sample_format]}{bits // 8}")).tobytes()
    path = folder / "a.tif"
    write_tiff(path, 6, 4, data, bits, order=order, white_is_zero=white_is_zero, sample_format=sample_format)
    found = outcome(path, 1)
    if isinstance(found, str):
        assert (bits, sample_format) not in {(8, 1)}
        return
    assert sample_format == 1
    expected = np.round(values / (2**bits - 1) * 255)
    assert np.array_equal(found[..., 0], 255 - expected if white_is_zero else expected)


# -- folders -----------------------------------------------------------------------------------------------------------

NAMES = ["train", "Train", "val", "valid", "test", "cat", "dog", "é x", ".hidden", "__MACOSX", "a(1)", "owl"]
COUNT = r"images (?:in|beside) [^;]*?/ ([\d,]+)"
FILES = ["a.png", "b.PNG", "c.jfif", "d.txt", ".e.png", "f", "g.heic", "h=1.png", "i,j.bmp", "k.tar.gz"]


@st.composite
def trees(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Paths and what lies there: a file, or a link to one of the folders or to nowhere."""
    folders = st.lists(st.sampled_from(NAMES), max_size=3).map("/".join)
    files = draw(st.lists(st.tuples(folders, st.sampled_from(FILES)), min_size=1, max_size=25, unique=True))
    links = draw(st.lists(st.tuples(folders, st.sampled_from(["up", "root", "none", "cat2"])), max_size=3, unique=True))
    return [(str(Path(folder, name)), "file") for folder, name in files] + [
        (str(Path(folder, name)), f"link {name}") for folder, name in links
    ]


def grow(root: Path, tree: list[tuple[str, str]], picture_of: bytes) -> None:
    for name, kind in tree:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if kind == "file":
            path.write_bytes(picture_of)
        elif not path.is_symlink():
            target = {"up": "..", "root": str(root), "none": "/nowhere", "cat2": str(root / "cat")}
            path.symlink_to(target[kind.removeprefix("link ")])


@pytest.mark.slow
@MANY
@given(tree=trees())
def test_every_picture_of_a_folder_is_read_or_counted(folder: Path, tree: list[tuple[str, str]]) -> None:
    content = io.BytesIO()
    Image.new("RGB", (3, 3), "red").save(content, "PNG")
    root = folder / "tree"
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    grow(root, tree, content.getvalue())
    source = ImageFolder(str(root), (3, 4, 4))
    try:
        num = sum(len(examples) for examples in source.load().values())
    except InputError as error:
        num, said = -1, str(error)
    if num < 0:
        assert "\n" not in said
        return
    beside = sum(int(count.replace(",", "")) for count in re.findall(COUNT, source.found))
    assert num + beside == len(FolderImages(str(root), grey=False)), source.found
    visible = [Path(name) for name, kind in tree if kind == "file" and Path(name).suffix.lower() in suffixes()]
    visible = [p for p in visible if not any(part.startswith(".") or part == "__MACOSX" for part in p.parts)]
    assert num + beside >= len(visible), source.found
    others = [Path(name) for name, kind in tree if kind == "file" and Path(name).suffix in (".txt", ".heic", ".gz")]
    for other in others:
        if not any(part.startswith(".") or part == "__MACOSX" for part in other.parts):
            assert f"{other.suffix} " in source.found
