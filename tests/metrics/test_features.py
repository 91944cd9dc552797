"""Feature extractors: what they do to any image before they look, and what they say of it."""

import hashlib
import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import yaml
from torch import Tensor, nn

from genlab.data.mnist import MNIST
from genlab.errors import InputError
from genlab.metrics.digit_classifier import WEIGHTS, DigitClassifier
from genlab.metrics.features import Module, Pixels, as_extractor, extract
from genlab.modalities.image import to_uint8
from support.paths import CONF

SHIPPED = ["mnist", "digits"]


def test_conversion_to_uint8_rounds_and_clips() -> None:
    x = torch.tensor([-0.1, 0.0, 0.4 / 255, 0.6 / 255, 0.5, 1.0, 1.7])
    assert to_uint8(x).tolist() == [0, 0, 0, 1, 128, 255, 255]
    levels = torch.arange(256, dtype=torch.uint8)
    assert torch.equal(to_uint8(levels.float() / 255), levels)  # every grey level comes back
    assert to_uint8(levels) is levels
    assert torch.equal(to_uint8(levels.to(torch.bfloat16) / 255), to_uint8((levels.to(torch.bfloat16) / 255).float()))


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (1, 5, 9), (3, 64, 64), (1, 1, 1)])
@pytest.mark.parametrize("name", [*SHIPPED, "pixels"])
@pytest.mark.parametrize("value", [None, 0.0, 1.0])
def test_any_image_gives_finite_features(name: str, shape: tuple[int, ...], value: float | None) -> None:
    """Also constant ones, of one channel, and smaller or larger than what the network was trained on."""
    extractor = Pixels() if name == "pixels" else DigitClassifier.pretrained(name)
    x = torch.rand(3, *shape) if value is None else torch.full((3, *shape), value)
    found = extract(extractor, [x])
    assert found.features.shape[0] == 3
    assert found.features.isfinite().all()
    if name != "pixels":
        assert found.features.shape == (3, 128)
        assert found.logits is not None
        assert found.logits.shape == (3, 10)


def test_a_float_image_and_the_file_it_would_be_saved_as_are_one() -> None:
    x = torch.rand(4, 1, 28, 28)
    for extractor in (Pixels(), DigitClassifier.pretrained("mnist")):
        assert torch.equal(extract(extractor, [x]).features, extract(extractor, [to_uint8(x)]).features)


def test_the_batch_does_not_matter() -> None:
    x = torch.rand(7, 1, 28, 28)
    extractor = DigitClassifier.pretrained("mnist")
    together = extract(extractor, [x])
    extractor.batch_size = 2
    torch.testing.assert_close(together.features, extract(extractor, [x[:3], x[3:]]).features)


def test_surrounding_bfloat16_does_not_reach_the_features() -> None:
    x = torch.rand(4, 1, 28, 28)
    extractor = DigitClassifier.pretrained("mnist")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = extract(extractor, [x]).features
    assert inside.dtype == torch.float32
    assert torch.equal(inside, extract(extractor, [x]).features)


def test_colour_becomes_grey_by_its_luma_and_another_size_is_resized() -> None:
    extractor = DigitClassifier.pretrained("mnist")
    grey = torch.randint(0, 256, (4, 1, 28, 28), dtype=torch.uint8)
    torch.testing.assert_close(extractor(grey)[0], extractor(grey.expand(-1, 3, -1, -1))[0], atol=1e-4, rtol=1e-4)
    doubled = grey.repeat_interleave(2, 2).repeat_interleave(2, 3)
    assert extractor(doubled)[0].shape == (4, 128)
    assert extractor.preprocessing((1, 28, 28)) == {"channels": "grey", "resize": "none"}
    assert extractor.preprocessing((3, 56, 56)) == {
        "channels": "ITU-R 601 luma",
        "resize": "antialiased bilinear to 28x28",
    }
    with pytest.raises(InputError, match="not 2 channels"):
        extractor(torch.zeros(1, 2, 28, 28, dtype=torch.uint8))


@pytest.mark.parametrize("name", SHIPPED)
def test_shipped_weights_are_the_ones_that_conf_names(name: str) -> None:
    path = WEIGHTS / f"{name}.safetensors"
    assert path.stat().st_size < 2e6
    config = yaml.safe_load((CONF / "metrics" / "features" / f"{name}.yaml").read_text())
    assert hashlib.sha256(path.read_bytes()).hexdigest() == config["sha256"]
    extractor = DigitClassifier.pretrained(name, config["sha256"])
    assert extractor.protocol((1, 28, 28))["weights_sha256"] == config["sha256"]
    assert extractor.facts["recipe"].endswith(f"train_digit_classifier {name}")
    with pytest.raises(InputError, match="is not the file it should be"):
        DigitClassifier.pretrained(name, "0" * 64)
    with pytest.raises(InputError, match="the package has digits, mnist"):
        DigitClassifier.pretrained("cifar")


def test_the_mnist_classifier_is_as_accurate_as_its_file_says(mnist_root: str) -> None:
    test = MNIST(mnist_root).load()["test"]
    assert test.images is not None
    classifier = DigitClassifier.pretrained("mnist")
    logits = extract(classifier, test.images.split(500)).logits
    assert logits is not None
    accuracy = float((logits.argmax(1) == test.labels).float().mean())
    assert accuracy == pytest.approx(float(classifier.facts["test_accuracy"]), abs=1e-4)
    assert accuracy >= 0.993


def the_recipe() -> ModuleType:
    """The script that made the shipped weights; it is no part of the package."""
    spec = importlib.util.spec_from_file_location("recipe", CONF.parent / "benchmarks" / "train_digit_classifier.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_digits_classifier_is_as_accurate_as_its_file_says() -> None:
    recipe = the_recipe()
    data = recipe.data_module("digits", "")
    classifier = DigitClassifier.pretrained("digits")
    assert recipe.accuracy(classifier, data, "test")[0] == float(classifier.facts["test_accuracy"]) > 0.98


@pytest.mark.slow
def test_the_recipe_makes_such_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shortened run of it is already a classifier, and the file is self-sufficient."""
    recipe = the_recipe()
    monkeypatch.setitem(recipe.RECIPES, "digits", ((1, 2, 1, 1, 1), 40, 0.06))
    recipe.train("digits", "", tmp_path)
    made = DigitClassifier.pretrained(str(tmp_path / "digits.safetensors"))
    assert float(made.facts["test_accuracy"]) > 0.9


def test_pixels_are_block_means() -> None:
    x = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    features, logits = Pixels()(x)
    assert features.shape == (2, 196)
    assert logits is None
    assert torch.allclose(features[:, 0], x[:, 0, :2, :2].float().mean((1, 2)) / 255)
    assert Pixels()(torch.zeros(2, 3, 32, 32, dtype=torch.uint8))[0].shape[1] <= 256
    assert torch.equal(Pixels()(x[..., :8, :8])[0], x[..., :8, :8].flatten(1) / 255)


class Net(nn.Module):
    """A user's extractor: mean and spread of the image, and its brightness as two classes."""

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(scale))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        features = self.scale * torch.stack([x.mean((1, 2, 3)), x.std((1, 2, 3))], 1)
        return features, 50 * torch.stack([x.mean((1, 2, 3)) - 0.5, 0.5 - x.mean((1, 2, 3))], 1)


def test_any_module_is_an_extractor_known_by_its_weights() -> None:
    extractor = as_extractor(Net())
    assert isinstance(extractor, Module)
    found = extract(extractor, [torch.rand(3, 3, 9, 9)])
    assert found.features.shape == (3, 2)
    assert found.logits is not None
    assert extractor.name == f"{__name__}.Net"
    hashes = {as_extractor(Net(scale)).protocol((1, 2, 2))["weights_sha256"] for scale in (1.0, 1.0, 2.0)}
    assert len(hashes) == 2
    with pytest.raises(InputError, match=r"not a torch\.nn\.Module"):
        as_extractor(np.zeros(3))


# -- Inception ---------------------------------------------------------------------------------------------------------


def test_inception_without_weights_is_one_line_and_no_hang(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from genlab.metrics.inception import Inception

    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "hub"))

    def unreachable(*_: object, **__: object) -> None:
        import socket

        assert socket.getdefaulttimeout() is not None
        raise TimeoutError("timed out")

    monkeypatch.setattr("torch.hub.download_url_to_file", unreachable)
    with pytest.raises(
        InputError, match=r"could not be downloaded \(timed out\).*metrics\.features=efficientnet_lite0"
    ):
        Inception()
    with pytest.raises(InputError, match="there is no such file"):
        Inception(str(tmp_path / "none.pth"))
    (tmp_path / "bad.pth").write_bytes(b"not weights")
    with pytest.raises(InputError, match="is not torch-fidelity's InceptionV3"):
        Inception(str(tmp_path / "bad.pth"))
    torch.save({"a": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match="is not torch-fidelity's InceptionV3"):
        Inception(str(tmp_path / "other.pth"))
