"""Images in few colours: the palette, the codes of it, and models that are trained on them."""

import json
import warnings
from pathlib import Path

import pytest
import torch

from genlab.data.cifar10 import CIFAR10
from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.data.palette import Nearest, PaletteDataModule, palette_of
from genlab.errors import InputError
from genlab.runs.loading import load
from support.cifar10_files import write_cifar10
from support.command import FAST, Genlab


def digits(**options: object) -> ImageDataModule:
    options = {"levels": 17, "val_size": 150, "test_size": 300, "num_classes": 10, **options}
    return ImageDataModule(Digits(), "digits", (1, 8, 8), **options)  # type: ignore[arg-type]


def in_colours(of: ImageDataModule, num_colours: int, **options: object) -> PaletteDataModule:
    options = {"shape": (1, *of.shape[1:]), "levels": num_colours, **options}
    return PaletteDataModule(of, num_colours, **options)  # type: ignore[arg-type]


def test_a_pixel_becomes_the_nearest_colour() -> None:
    palette = torch.rand(20, 3)
    x = torch.randint(256, (6, 3, 5, 4)) / 255
    nearest = Nearest(palette, 256)
    codes = nearest(x)
    assert codes.shape == (6, 1, 5, 4)
    distances = (x.unsqueeze(1) - palette.view(1, 20, 3, 1, 1)).square().sum(2)
    assert torch.equal(codes.squeeze(1).long(), distances.argmin(1))
    assert torch.equal(nearest(x.flip(0)), codes.flip(0))  # what was found is the same again


def test_k_means_finds_the_colours_that_there_are() -> None:
    colours = torch.tensor([[0.0, 0.1, 0.0], [0.5, 0.0, 0.4], [0.2, 0.9, 0.7], [1.0, 1.0, 0.9]])
    pixels = (colours[torch.randint(4, (4000,))] + 0.01 * torch.randn(4000, 3)).clamp(0, 1)
    torch.testing.assert_close(palette_of(pixels, 4), colours, atol=0.01, rtol=0)
    with pytest.raises(InputError, match="num_colours=5: 4,000 pixels have 4 colours"):
        palette_of(colours.repeat(1000, 1), 5)


def test_as_many_colours_as_levels_change_nothing() -> None:
    data = in_colours(digits(), 17)
    data.setup()
    codes, labels = data.some("test", 20)
    images, of_images = data.pictured.some("test", 20)
    torch.testing.assert_close(data.decode(codes), images, atol=1e-3, rtol=0)
    assert torch.equal(labels, of_images)
    assert data.protocol["palette_mse"] < 1e-6  # type: ignore[operator]
    assert data.kind == "codes"
    assert data.levels == 17


def test_few_colours_cost_what_the_protocol_says() -> None:
    data = in_colours(digits(), 4)
    data.setup()
    decoded = torch.cat([data.decode(x) for x, _ in data.batches("test")])
    images = torch.cat([x for x, _ in data.pictured.batches("test")])
    assert data.protocol["palette_mse"] == pytest.approx((decoded - images).square().mean().item(), rel=1e-4)
    assert data.protocol["levels"] == 4
    assert len(decoded.unique()) == 4


def test_a_palette_is_made_once_and_again_where_it_is_damaged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = in_colours(digits(), 5, cache_dir=str(tmp_path))
    first.setup()
    (kept,) = tmp_path.iterdir()
    whole = kept.read_bytes()
    codes, _ = first.some("train", 9)
    kept.write_bytes(whole[:100])
    with pytest.warns(UserWarning, match="damaged"):
        in_colours(digits(), 5, cache_dir=str(tmp_path)).setup()
    assert kept.read_bytes() == whole
    monkeypatch.setattr("genlab.data.palette.palette_of", None)
    again = in_colours(digits(), 5, cache_dir=str(tmp_path), seed=3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert torch.equal(again.decode(codes), first.decode(codes))  # without the codes of the data
    assert not again.splits
    again.setup()
    assert torch.equal(again.some("train", 9)[0], codes)


def test_shifted_images_have_no_palette() -> None:
    images = ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17, shift=0.1)
    with pytest.raises(InputError, match="shift"):
        PaletteDataModule(images, 4, (1, 8, 8), levels=4)


def test_cifar10_in_colours_is_flipped_in_training_alone(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    of = ImageDataModule(
        CIFAR10(str(tmp_path)), "cifar10", (3, 32, 32), num_classes=10, val_size=40, batch_size=16, flip=True
    )
    data = in_colours(of, 32, batch_size=16, num_classes=10)
    data.setup()
    assert data.shape == (1, 32, 32)
    plain, _ = next(iter(data.batches("train", augment=False)))
    drawn, _ = next(iter(data.batches("train")))
    flipped = (drawn != plain).flatten(1).any(1)
    assert 0 < flipped.sum() < len(plain)
    assert torch.equal(torch.where(flipped.view(-1, 1, 1, 1), drawn.flip(-1), drawn), plain)
    assert torch.equal(next(iter(data.batches("test")))[0], next(iter(data.batches("test", augment=False)))[0])
    assert data.decode(plain).shape == (len(plain), 3, 32, 32)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"num_colours": 1}, "num_colours=1: expected 2"),
        ({"levels": 6}, "levels=6; for digits in 5 colours they must be"),
        ({"shape": (1, 8, 9)}, r"they must be \[1, 8, 8\]"),
        ({"of": digits(kind="binary", levels=2, source_levels=17)}, "a palette needs images"),
    ],
)
def test_what_has_no_palette_is_refused_in_a_line(options: dict[str, object], line: str) -> None:
    with pytest.raises(InputError, match=line):
        in_colours(**{"of": digits(), "num_colours": 5, **options})  # type: ignore[arg-type]


def test_a_model_of_colours_is_trained_and_its_samples_are_images(genlab: Genlab) -> None:
    of = ("dataset=palette", "dataset@dataset.of=digits", "dataset.num_colours=6")
    narrow = ("model=transformer/image_gpt", "model.num_layers=1", "model.width=8")
    result = genlab("train", *narrow, *of, *FAST)
    assert result.code == 0, result.err
    metrics = json.loads((result.run / "summary.json").read_text())["metrics"]
    likelihood = metrics["test/bits_per_dim"]["protocol"]
    assert likelihood["dataset"] == "digits in 6 colours"
    assert likelihood["palette_mse"] > 0
    assert metrics["test/fid"]["protocol"]["dataset"] == "digits"
    run = load(result.run)
    assert run.decode(run.model.sample(2)).unique().numel() <= 6


def test_mnist_in_eight_greys(mnist_root: str, tmp_path: Path) -> None:
    from genlab.data.mnist import MNIST

    of = ImageDataModule(MNIST(mnist_root), "mnist", (1, 28, 28), num_classes=10, val_size=5000)
    data = in_colours(of, 8, cache_dir=str(tmp_path))
    data.setup()
    assert {split: len(examples) for split, examples in data.splits.items()} == {
        "train": 55_000,
        "val": 5_000,
        "test": 10_000,
    }
    assert data.some("train", 500)[0].unique().numel() == 8
    assert 0 < data.protocol["palette_mse"] < 0.002  # type: ignore[operator]
