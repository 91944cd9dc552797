"""Two sets of images: those that look alike have no distance, and those that cannot be compared are one line."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from genlab.data import folders
from genlab.data.image_sets import ArrayImages, open_pair
from genlab.errors import InputError
from genlab.metrics.features import Module, Pixels, extract
from genlab.metrics.reference import Reference
from support.command import Genlab, Result, Trained
from support.image_folders import write_images
from support.picture_files import write_bomb

RNG = np.random.default_rng(0)
PIXELS = ("metrics.features=pixels",)


@pytest.fixture(autouse=True)
def _every_line_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_said", set())


def fid(result: Result) -> float:
    assert result.code == 0, result.err
    (written,) = result.outputs.rglob("evaluation.json")
    return float(json.loads(written.read_text())["metrics"]["fid"]["value"])


def refusal(result: Result) -> str:
    assert result.code == 2, result.err
    assert result.err.count("\n") == 1, result.err
    return result.err


def smooth(high: int) -> np.ndarray:
    return np.sort(RNG.integers(0, high, (16, 16, 3)), axis=0).astype(np.uint8)


# -- what looks alike --------------------------------------------------------------------------------------------------


def test_unlike_sets_of_16_bits_are_apart(genlab: Genlab, tmp_path: Path) -> None:
    for name, high in (("a", 200), ("b", 255)):
        (tmp_path / name).mkdir()
        for i in range(20):
            values = RNG.integers(1, high, (16, 16)) * 257
            Image.fromarray(values.astype(np.uint16)).save(tmp_path / name / f"{i}.png")
    assert fid(genlab("evaluate", f"real={tmp_path / 'a'}", f"fake={tmp_path / 'b'}", *PIXELS)) > 0.1


def test_a_picture_stored_on_its_side_is_no_other(genlab: Genlab, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    for name in "pq":
        (tmp_path / name).mkdir()
    for i in range(20):
        pixels = smooth(255)
        Image.fromarray(pixels).save(tmp_path / "p" / f"{i}.png")
        Image.fromarray(np.ascontiguousarray(np.rot90(pixels))).save(tmp_path / "q" / f"{i}.png", exif=exif)
    result = genlab("evaluate", f"real={tmp_path / 'p'}", f"fake={tmp_path / 'q'}", *PIXELS)
    assert fid(result) == pytest.approx(0, abs=1e-6)
    assert f"genlab: {tmp_path / 'q'}: 20 images; turned as EXIF says 20\n" in result.err
    (written,) = result.outputs.rglob("evaluation.json")
    assert "transparency over white" in json.loads(written.read_text())["metrics"]["fid"]["protocol"]["pictures"]


def test_transparency_and_white_are_alike(genlab: Genlab, tmp_path: Path) -> None:
    for name in "pq":
        (tmp_path / name).mkdir()
    for i in range(20):
        pixels = smooth(255)
        pixels[:4] = 255
        clear = np.dstack([pixels, np.full((16, 16), 255, np.uint8)])
        clear[:4] = (i, 0, 3 * i, 0)
        Image.fromarray(pixels).save(tmp_path / "p" / f"{i}.png")
        Image.fromarray(clear).save(tmp_path / "q" / f"{i}.png")
    assert fid(genlab("evaluate", f"real={tmp_path / 'p'}", f"fake={tmp_path / 'q'}", *PIXELS)) == pytest.approx(
        0, abs=1e-6
    )


def test_names_that_are_not_utf8_can_be_compared(genlab: Genlab, tmp_path: Path) -> None:
    write_images(tmp_path / "a", 8, (8, 8))
    os.rename(tmp_path / "a" / "0001.png", os.fsencode(tmp_path / "a") + b"/\xff\xfe.png")
    assert fid(genlab("evaluate", f"real={tmp_path / 'a'}", f"fake={tmp_path / 'a'}", *PIXELS)) < 1e-6


def test_the_likelihood_of_files_whose_names_are_not_utf8(genlab: Genlab, trained: Trained, tmp_path: Path) -> None:
    small = ("trainer.max_epochs=1", "dataset.train_size=128", "metrics.num_samples=40", "logger=csv")
    run = trained("model=vae/vae", "model.networks.hidden=[8]", *small)
    write_images(tmp_path / "a", 2, (8, 8), "L")
    os.rename(tmp_path / "a" / "0001.png", os.fsencode(tmp_path / "a") + b"/\xff\xfe.png")
    result = genlab("evaluate", run, f"images={tmp_path / 'a'}")
    assert result.code == 0, result.err
    (table,) = result.outputs.rglob("likelihood.csv")
    assert b"\n\xff\xfe.png," in table.read_bytes()


def test_what_was_left_out_is_said_once_it_is_measured(genlab: Genlab, tmp_path: Path) -> None:
    write_images(tmp_path / "a", 8, (8, 8))
    write_images(tmp_path / "a" / ".trash", 8, (8, 8))
    (tmp_path / "a" / "b.heic").write_bytes(b"x")
    sets = (f"real={tmp_path / 'a'}", f"fake={tmp_path / 'a'}", *PIXELS)
    result = genlab("evaluate", *sets)
    assert result.err.count(f"genlab: {tmp_path / 'a'}: 8 images; left out: .heic 1, .trash/ 1\n") == 1
    write_bomb(tmp_path / "a" / "zz.png")  # which is found after eight images were read
    assert "zz.png is too large an image" in refusal(genlab("evaluate", *sets))


# -- what cannot be compared -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("array", "said"),
    [
        (np.zeros((9, 16, 16, 3), np.uint8), r"give \(N, C, H, W\), as array\.transpose\(0, 3, 1, 2\) does"),
        (np.zeros((9, 16, 16, 1), np.uint8), r"give \(N, C, H, W\)"),
        (np.zeros((9, 4, 16, 16), np.uint8), r"found \[9, 4, 16, 16\]: give \(N, C, H, W\)"),
        (np.zeros((9, 16, 16), np.uint8), r"reshape it to \(N, 1, H, W\)"),
        (np.zeros((9, 1, 16, 16), np.float32), r"found float32 .*round\(255 x\)"),
        (np.zeros((9, 1, 16, 16), np.uint16), "found uint16"),
        (np.zeros((0, 1, 16, 16), np.uint8), "expected images as uint8|cannot be read"),
        (np.array([None]), "cannot be read as a NumPy array"),
        (np.array(["a"]), "cannot be read as a NumPy array"),
    ],
)
def test_arrays_that_are_no_images(tmp_path: Path, array: np.ndarray, said: str) -> None:
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    with pytest.raises(InputError, match=said):
        ArrayImages(str(tmp_path / "a.npy"))


def lying_header(path: Path, shape: tuple[int, ...]) -> None:
    """Write an array of a few bytes whose header claims a shape."""
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|u1", "fortran_order": False, "shape": shape})
        file.write(b"\0" * 64)


@pytest.mark.parametrize("shape", [(10**9, 3, 32, 32), (2**62, 3, 32, 32), (9, 1, 8, 8)])
def test_a_header_that_claims_more_than_there_is(genlab: Genlab, tmp_path: Path, shape: tuple[int, ...]) -> None:
    lying_header(tmp_path / "a.npy", shape)
    line = refusal(genlab("evaluate", f"real={tmp_path / 'a.npy'}", f"fake={tmp_path / 'a.npy'}", *PIXELS))
    assert "a.npy cannot be read as a NumPy array (" in line


def test_grey_arrays_beside_colour_become_colour(tmp_path: Path) -> None:
    write_images(tmp_path / "colour", 3, (8, 8))
    np.save(tmp_path / "grey.npy", RNG.integers(0, 256, (5, 1, 8, 8)).astype(np.uint8))
    real, fake = open_pair(str(tmp_path / "grey.npy"), str(tmp_path / "colour"))
    assert real.shape == fake.shape == (3, 8, 8)
    grey = torch.cat(list(real))
    assert grey.shape == (5, 3, 8, 8)
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_sets_of_unlike_size(genlab: Genlab, tmp_path: Path) -> None:
    write_images(tmp_path / "a", 8, (40, 40))
    write_images(tmp_path / "b", 8, (33, 17))
    write_images(tmp_path / "c", 8, (16, 16))
    write_images(tmp_path / "d", 8, (32, 8))
    line = refusal(genlab("evaluate", f"real={tmp_path / 'a'}", f"fake={tmp_path / 'b'}", *PIXELS))
    assert f"{tmp_path / 'a'} has images of shape [3, 40, 40], {tmp_path / 'b'} of [3, 17, 33]" in line
    # As many features, which lie in other places.
    assert "cannot be compared" in refusal(
        genlab("evaluate", f"real={tmp_path / 'c'}", f"fake={tmp_path / 'd'}", *PIXELS)
    )
    # As many features, in the same places.
    result = genlab("evaluate", f"real={tmp_path / 'a'}", f"fake={tmp_path / 'c'}", *PIXELS)
    assert fid(result) > 0
    (written,) = result.outputs.rglob("evaluation.json")
    protocol = json.loads(written.read_text())["metrics"]["fid"]["protocol"]
    assert protocol["resize"] == "mean of 2x2 pixels; real images: mean of 5x5 pixels"


def test_a_modules_features_of_unlike_size(genlab: Genlab, tmp_path: Path) -> None:
    write_images(tmp_path / "a", 8, (4, 4))
    write_images(tmp_path / "b", 8, (5, 5))
    own = "metrics.features={_target_: torch.nn.Flatten}"
    line = refusal(genlab("evaluate", f"real={tmp_path / 'a'}", f"fake={tmp_path / 'b'}", own))
    assert "Flatten features cannot be compared" in line
    assert "[3, 4, 4]" in line
    assert "[3, 5, 5]" in line


class Broken(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.linear = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> object:
        rows = x.flatten(1)
        return {
            "nan": lambda: rows * float("nan"),
            "infinite": lambda: rows / 0,
            "one nan": lambda: torch.where(torch.arange(len(rows))[:, None] == 1, float("nan"), rows),
            "scalar": lambda: rows.mean(),
            "one row": lambda: rows[0],
            "none": lambda: rows[:, :0],
            "half": lambda: rows[::2],
            "dict": lambda: {"features": rows},
            "text": lambda: "features",
            "logits": lambda: (rows, rows * float("nan")),
            "fails": lambda: self.linear(rows),
        }[self.kind]()


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("nan", "features that are NaN or infinite"), ("infinite", "features that are NaN or infinite"),
        ("one nan", "features that are NaN or infinite"), ("scalar", r"features of shape \[\] for 4 images"),
        ("one row", "features of shape"), ("none", r"features of shape \[4, 0\] for 4 images"),
        ("half", "features of shape"), ("dict", "returns dict"), ("text", "returns str"),
        ("logits", "logits that are NaN"), ("fails", r"fails on images of shape \[3, 4, 4\] \(mat1 and mat2"),
    ],
)  # fmt: skip
def test_features_that_are_none(kind: str, said: str) -> None:
    with pytest.raises(InputError, match=rf"metrics\.features: .*{said}"):
        extract(Module(Broken(kind)), [torch.rand(4, 3, 4, 4) + 0.1])


def test_the_reference_of_other_sizes_is_not_mistaken(tmp_path: Path) -> None:
    assert Pixels().layout((3, 40, 40)) == Pixels().layout((3, 16, 16)) == (3, 8, 8)
    assert Pixels().layout((1, 16, 16)) != Pixels().layout((1, 8, 32))
    np.save(tmp_path / "a.npy", RNG.integers(0, 256, (8, 1, 16, 16)).astype(np.uint8))
    first = Reference.of(ArrayImages(str(tmp_path / "a.npy")), Pixels(), tmp_path / "cache")
    again = Reference.of(ArrayImages(str(tmp_path / "a.npy"), grey=False), Pixels(), tmp_path / "cache")
    assert first.features.features.shape != again.features.features.shape


# -- damaged pictures of runs ------------------------------------------------------------------------------------------


def test_a_page_of_runs_with_pictures_that_cannot_be_read(genlab: Genlab, trained: Trained, tmp_path: Path) -> None:
    run = trained("model=vae/vae", "model.networks.hidden=[4]", "debug=limit", "logger=csv")
    (run / "samples").mkdir(exist_ok=True)
    write_bomb(run / "samples" / "00000100.png")
    (run / "samples" / "00000200.png").write_bytes(b"half a picture")
    Image.fromarray(np.zeros((4, 4), np.uint8)).save(run / "samples" / "00000300.png")
    lying_header(run / "samples" / "real.npy", (10**9, 1, 64, 64))
    page = tmp_path / "page.html"
    result = genlab("compare", run, "--html", page)
    assert result.code == 0, result.err
    assert page.is_file()
    for name in ("00000100.png is too large an image", "00000200.png cannot be read as an image"):
        assert result.err.count(f"{name} (") == 1
    assert "00000300.png" not in result.err
    assert "real.npy cannot be read as a NumPy array" in result.err
    assert page.read_text().count("data:image/webp") >= 1
