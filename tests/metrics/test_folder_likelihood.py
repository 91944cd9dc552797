"""The likelihood of a folder of images: that of the test set where the folder holds it."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.runs.loading import load
from support.command import FAST, Genlab, Trained
from support.image_folders import write_images

SMALL = ("trainer.max_epochs=1", "dataset.train_size=128", "metrics.num_samples=40", "logger=csv")
MODELS = {
    "pixel_cnn": ("model=autoregressive/pixel_cnn", "model.channels=4", "model.num_layers=1"),
    "real_nvp": ("model=flow/real_nvp", "model.width=4", "model.num_couplings=1"),
    "vae": ("model=vae/vae", "model.networks.hidden=[8]"),
    "binary": (
        "model=autoregressive/made", "model.hidden=[8]", "dataset.kind=binary", "dataset.levels=2",
        "+dataset.source_levels=17",
    ),
}  # fmt: skip


def write_test_set(run: Path, folder: Path) -> str:
    """As PNGs of 256 levels, in their order."""
    data = load(run).data
    images = data.splits["test"].take(torch.arange(len(data.splits["test"])))
    folder.mkdir()
    for i, image in enumerate((images[:, 0] * (255 / 16)).round().byte().numpy()):
        Image.fromarray(image).save(folder / f"{i:04d}.png")
    return str(folder)


@pytest.mark.parametrize("name", MODELS)
def test_a_folder_of_the_test_set_has_its_likelihood(
    genlab: Genlab, trained: Trained, tmp_path: Path, name: str
) -> None:
    run = trained(*MODELS[name], *SMALL)
    images = write_test_set(run, tmp_path / "images")
    result = genlab("evaluate", run, f"images={images}")
    assert result.code == 0, result.err
    (table,) = result.outputs.rglob("likelihood.csv")
    found = json.loads((table.parent / "evaluation.json").read_text())["metrics"]
    expected = json.loads((run / "summary.json").read_text())["metrics"]
    for figure in ("nll", "bits_per_dim"):
        assert found[figure]["value"] == pytest.approx(expected[f"test/{figure}"]["value"], rel=1e-5)
        assert found[figure]["standard_error"] == pytest.approx(expected[f"test/{figure}"]["standard_error"], rel=1e-4)
    protocol = found["nll"]["protocol"]
    assert protocol["likelihood"] == expected["test/nll"]["protocol"]["likelihood"]
    assert protocol["num"] == 300
    assert len(protocol["sha256"]) == 64
    assert ("binarization" in protocol) == (name == "binary")
    assert "grey_levels" not in protocol  # all 256 levels are ones of the 17

    rows = list(csv.DictReader(table.open()))
    assert [row["path"] for row in rows] == [f"{i:04d}.png" for i in range(300)]
    assert np.mean([float(row["nats"]) for row in rows]) == pytest.approx(found["nll"]["value"], rel=1e-4)
    for row in rows[:5]:
        assert float(row["bits_per_dim"]) == pytest.approx(float(row["nats"]) / (64 * math.log(2)), rel=1e-4)
    if protocol["likelihood"] == "exact":  # image by image
        opened = load(run)
        with torch.no_grad():
            each = -opened.model.log_prob(opened.data.first("test", 20))  # type: ignore[operator]
        assert [float(row["nats"]) for row in rows[:20]] == pytest.approx(each.tolist(), rel=1e-4)


def test_classes_are_equally_likely_and_levels_rounded(genlab: Genlab, tmp_path: Path) -> None:
    run = genlab("train", *MODELS["pixel_cnn"], "model.num_classes=10", *FAST).run
    write_images(tmp_path / "images" / "below", 3, (8, 8), "L")
    result = genlab("evaluate", run, f"images={tmp_path / 'images'}")
    assert result.code == 0, result.err
    (table,) = result.outputs.rglob("likelihood.csv")
    rows = list(csv.DictReader(table.open()))
    assert rows[0]["path"] == "below/0000.png"
    protocol = json.loads((table.parent / "evaluation.json").read_text())["metrics"]["nll"]["protocol"]
    assert protocol["classes"] == "10, equally likely"
    assert protocol["grey_levels"] == "256 rounded to 17"
    image = np.asarray(Image.open(tmp_path / "images" / "below" / "0000.png"))
    x = (torch.from_numpy(image / 255 * 16).round() / 16).float().expand(10, 1, 8, 8)
    with torch.no_grad():
        of_classes = load(run).model.log_prob(x, torch.arange(10))  # type: ignore[operator]
    assert float(rows[0]["nats"]) == pytest.approx(math.log(10) - of_classes.logsumexp(0).item(), rel=1e-4)


def test_what_has_no_likelihood_is_one_line(genlab: Genlab, trained: Trained, tmp_path: Path) -> None:
    run = trained(*MODELS["vae"], *SMALL)
    write_images(tmp_path / "larger", 2, (9, 8), "L")
    write_images(tmp_path / "mixed", 1, (8, 8), "L")
    Image.new("L", (4, 8)).save(tmp_path / "mixed" / "1.png")
    for arguments, line in (
        ((run, f"images={tmp_path / 'larger'}"), "0000.png is 9x8 and the run's images are 8x8: resize"),
        ((run, f"images={tmp_path / 'mixed'}"), "1.png is 4x8"),
        ((run, f"images={tmp_path / 'nowhere'}"), "there is no folder"),
        ((f"images={tmp_path / 'larger'}",), "give runs"),
        ((f"real={tmp_path}", f"fake={tmp_path}", f"images={tmp_path}"), "is measured by a run"),
    ):
        result = genlab("evaluate", *arguments)
        assert result.code == 2
        assert line in result.err, result.err
        assert result.err.count("\n") == 1
    assert not list(result.outputs.rglob("likelihood.csv"))


def test_a_gan_has_none(genlab: Genlab, trained: Trained, tmp_path: Path) -> None:
    run = trained("model=gan/dcgan", "model.channels=4", *FAST)
    write_images(tmp_path / "images", 2, (8, 8), "L")
    result = genlab("evaluate", run, f"images={tmp_path / 'images'}")
    assert result.code == 2
    assert "this run's model has no likelihood" in result.err
