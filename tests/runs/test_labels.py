"""Labels of pictures: beside the images, which stay as they are, and small enough for their columns."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.pictures.files import film
from genlab.pictures.grid import grid
from genlab.pictures.labels import Labels, captioned, labelled
from genlab.views.manifold import of_plane
from support.command import FAST, Genlab


def inked(picture: Image.Image) -> np.ndarray:
    """Where there are dark letters."""
    return np.asarray(picture.convert("L")) < 128


def test_labels_stand_beside_the_images_and_name_their_rows_and_columns() -> None:
    images = torch.ones(6, 1, 28, 28)  # white, so that all ink is that of letters
    sheet = grid(images, columns=3, min_side=48)
    labels = Labels(["0.2", "0.4", "1"], ["latent 7", "latent 12"], "temperature")
    picture = grid(images, columns=3, labels=labels)
    left, top = picture.width - sheet.width, picture.height - sheet.height
    assert left > 40
    assert top > 25
    assert np.array_equal(np.asarray(picture)[top:, left:], np.asarray(sheet))
    side = 56 + 2
    ink = inked(picture)
    for column in range(3):
        assert ink[20:top, left + column * side : left + (column + 1) * side].any()
    for row in range(2):
        assert ink[top + row * side : top + (row + 1) * side, :left].any()
    assert ink[:14, left:].any()  # the title
    assert grid(images, columns=3).size == (3 * 58 + 2, 2 * 58 + 2)  # without labels nothing is added


@pytest.mark.parametrize("side", [12, 24, 48])
def test_labels_of_narrow_columns_do_not_touch(side: int) -> None:
    sheet = Image.new("RGB", (10 * (side + 2) + 2, side + 2), "white")
    wide, narrow = (labelled(sheet, (side, side), Labels([text] * 10)) for text in ("+1.96", "1"))
    ink = inked(wide)[: wide.height - side - 2].any(0)
    starts = np.flatnonzero(ink[1:] & ~ink[:-1])
    gaps = np.diff(starts)
    assert ink.any()
    words = 1 + (gaps > 12).sum()  # letters of a word are closer
    assert words <= 10
    if side < 24:
        assert words < 10  # not every column has room
    assert narrow.height - sheet.height >= wide.height - sheet.height


def test_a_lattice_is_labelled_by_the_values_of_its_latents() -> None:
    labels = of_plane(3)
    assert list(labels.columns) == ["-1.0", "+0.0", "+1.0"]
    assert list(labels.rows) == ["+1.0", "+0.0", "-1.0"]  # as the picture, from the top


def test_a_film_says_what_a_frame_is(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (100, 30), "white") for _ in range(300)]
    film(frames, tmp_path / "film.gif", captions=[f"{100 * i} images seen" for i in range(300)])
    with Image.open(tmp_path / "film.gif") as made:
        assert made.size == captioned(frames[0], "29900 images seen").size
        shown = []
        for i in (0, made.n_frames - 1):
            made.seek(i)
            shown.append(inked(made.convert("RGB"))[:18])
    assert all(part.any() for part in shown)
    assert not np.array_equal(*shown)


def test_pictures_of_modes_are_labelled_and_arrays_are_not(genlab: Genlab) -> None:
    trained = genlab(
        "train", "model=gan/dcgan", "model.num_classes=10", *FAST, "callbacks=minimal", "metrics.memorization=false"
    )
    assert trained.code == 0, trained.err
    for mode, columns in (("classes", 4), ("truncation", 5)):
        result = genlab("sample", trained.run, f"mode={mode}", "n=4")
        png, npy = re.findall(r"\S+\.(?:png|npy)", result.out)
        array = np.load(npy)
        assert array.shape[1:] == (1, 8, 8)
        factor = 4 if mode == "classes" else 6  # 32 pixels, and 48 where columns have labels
        rows = len(array) // columns
        bare = (columns * (8 * factor + 2) + 2, rows * (8 * factor + 2) + 2)
        picture = Image.open(png)
        assert picture.width > bare[0] or picture.height > bare[1]
        inner = (
            np.asarray(picture)[-bare[1] :, -bare[0] :]
            if mode == "classes"
            else np.asarray(picture)[-bare[1] :, : bare[0]]
        )
        assert np.array_equal(inner[2 : 2 + 8 * factor : factor, 2 : 2 + 8 * factor : factor, 0], array[0, 0])
