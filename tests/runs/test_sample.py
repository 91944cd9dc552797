"""``genlab sample``: the same samples for the same seed, and ways to look at them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.data.digits import Digits
from genlab.runs.loading import load
from support.command import FAST, Genlab, Result, Trained


@pytest.fixture
def conditional(trained: Trained) -> Path:
    return trained("model=gan/dcgan", "model.channels=4", "model.num_classes=10", "dataset=digits", *FAST)


def written(result: Result) -> tuple[np.ndarray, Image.Image]:
    assert result.code == 0, result.err
    picture, array = (line for line in result.out.split() if line.endswith((".png", ".npy")))
    return np.load(array), Image.open(picture)


def test_interpolation_goes_from_one_sample_to_another(genlab: Genlab, conditional: Path) -> None:
    samples, picture = written(
        genlab("sample", f"run={conditional}", "mode=interpolate", "n=3", "steps=5", "classes=4")
    )
    assert samples.shape == (15, 1, 8, 8)
    assert picture.width > picture.height  # five columns, three rows
    ends, _ = written(genlab("sample", f"run={conditional}", "n=6", "classes=4"))
    rows = samples.reshape(3, 5, 1, 8, 8).astype(int)
    # The first samples of this seed, and the ones after them.
    assert abs(rows[:, 0] - ends[:3].astype(int)).max() <= 1
    assert abs(rows[:, -1] - ends[3:].astype(int)).max() <= 1
    steps = np.abs(np.diff(rows, axis=1)).mean((0, 2, 3, 4))
    whole = np.abs(rows[:, -1] - rows[:, 0]).mean()
    assert (steps < whole).all()


def test_truncation_narrows_the_samples_of_a_row(genlab: Genlab, conditional: Path) -> None:
    result = genlab("sample", f"run={conditional}", "mode=truncation", "temperatures=[0.01,0.5,1]", "classes=3", "n=6")
    samples, _ = written(result)
    columns = samples.reshape(6, 3, -1).astype(float)
    spread = columns.std(0).mean(1)
    assert spread[0] < spread[1] < spread[2]
    same, _ = written(genlab("sample", f"run={conditional}", "classes=3", "n=6"))
    assert np.array_equal(samples.reshape(6, 3, 1, 8, 8)[:, 2], same)


def test_classes_are_rows_of_one_noise(genlab: Genlab, conditional: Path) -> None:
    samples, _ = written(genlab("sample", f"run={conditional}", "mode=classes", "n=4"))
    assert samples.shape == (40, 1, 8, 8)
    of_seven, _ = written(genlab("sample", f"run={conditional}", "classes=7", "n=4"))
    assert np.array_equal(samples[28:32], of_seven)
    two, _ = written(genlab("sample", f"run={conditional}", "mode=classes", "n=4", "classes=[7,1]"))
    assert np.array_equal(two, np.concatenate([samples[28:32], samples[4:8]]))


def test_nearest_training_images_are_found(genlab: Genlab, conditional: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that repeats a training image, that image."""
    images = Digits().load()["train"].images
    assert images is not None
    run = load(conditional)
    train = run.data.first("train", 8)

    def repeats(self: object, num: int, *arguments: object, **options: object) -> torch.Tensor:
        return train[:num]

    monkeypatch.setattr(type(run.model), "sample", repeats)
    samples, picture = written(genlab("sample", f"run={conditional}", "mode=nearest"))
    assert np.array_equal(samples, (train * 255).round().byte().numpy())
    sheet = np.asarray(picture)[..., 0].astype(int)
    side = (sheet.shape[1] - 2) // 6
    sheet = sheet[-(8 * side + 2) :]  # below the labels
    first, second = sheet[2:side, 2:side], sheet[2:side, side + 2 : 2 * side]
    assert abs(first - second).max() <= 1


@pytest.mark.parametrize("model", ["vae/vae", "flow/real_nvp"])
def test_models_that_encode_interpolate_too(genlab: Genlab, trained: Trained, model: str) -> None:
    small = {"vae/vae": "model.networks.hidden=[8]", "flow/real_nvp": "model.width=4"}[model]
    run = trained(f"model={model}", small, *FAST)
    samples, _ = written(genlab("sample", f"run={run}", "mode=interpolate", "n=2", "steps=4"))
    again, _ = written(genlab("sample", f"run={run}", "mode=interpolate", "n=2", "steps=4"))
    assert samples.shape == (8, 1, 8, 8)
    assert np.array_equal(samples, again)


def test_points_are_drawn_over_those_of_the_data(genlab: Genlab) -> None:
    result = genlab(
        "train", "experiment=toy/gan", "model.width=8", "dataset.train_size=400", "trainer.max_epochs=2",
        "callbacks.sample_grid.every_n_validations=1", "metrics.num_samples=50", "logger=csv",
        "callbacks.sample_metrics.num_samples=50",
    )  # fmt: skip
    assert result.code == 0, result.err
    samples, picture = written(genlab("sample", f"run={result.run}", "n=20"))  # of the last weights
    assert samples.shape == (20, 2)
    assert samples.dtype == np.float32
    assert picture.size == (480, 480)
    film = Image.open(result.run / "samples" / "film.gif")
    assert film.n_frames == 2
    assert "shows them" in genlab("sample", f"run={result.run}", "mode=nearest").err


def test_the_surface_of_a_discriminator_whose_zero_says_nothing_is_seen_around_its_median(genlab: Genlab) -> None:
    result = genlab(
        "train", "experiment=toy/r3gan", "model.width=8", "dataset.train_size=400", "trainer.max_epochs=1",
        "callbacks.sample_metrics.num_samples=50", "metrics.num_samples=50", "logger=csv",
    )  # fmt: skip
    assert result.code == 0, result.err
    (path,) = (path for path in (result.run / "samples").glob("*.png") if path.stem.isdigit())
    red, _, blue = np.asarray(Image.open(path)).astype(int)[60:400, 80:450].reshape(-1, 3).T
    assert 0.3 < (red > blue).mean() < 0.6  # samples, which lie over it, are blue
    assert (red < blue).mean() > 0.3


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("mode=nonsense",), "mode"),
        (("mode=classes",), "is not class-conditional"),
        (("mode=interpolate",), "has no latents"),
        (("mode=truncation", "temperatures=[0,1]"), "give a number above 0"),
        (("steps=0",), "give a number of samples"),
    ],
)
def test_what_cannot_be_shown_is_one_line(
    genlab: Genlab, trained: Trained, overrides: tuple[str, ...], line: str
) -> None:
    small = ("model.channels=4", "model.num_layers=1")
    run = trained("model=autoregressive/pixel_cnn", *small, *FAST)
    result = genlab("sample", f"run={run}", *overrides)
    assert result.code == 2
    assert line in result.err
    assert result.err.count("\n") == 1
