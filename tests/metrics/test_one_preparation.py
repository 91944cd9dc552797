"""What an image's figures do not depend on: batches, kinds of files, folder or array, training or measuring."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.data.image_folder import ImageFolder
from genlab.data.image_sets import ArrayImages, FolderImages, ImageSet, SplitImages, open_pair
from genlab.data.images import ImageDataModule
from genlab.errors import InputError
from genlab.metrics.efficientnet_lite import EfficientNetLite0
from genlab.metrics.evaluation import Evaluation
from genlab.metrics.features import FeatureExtractor, Pixels
from support.command import Genlab

CPU = torch.device("cpu")
LOSSLESS = {"png": {}, "bmp": {}, "ppm": {}, "webp": {"lossless": True}, "tiff": {}}


def photographs(num: int, seed: int, size: tuple[int, int] = (20, 24)) -> np.ndarray:
    """Smooth colour pictures, uint8 ``(N, H, W, 3)``."""
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 256, (num, 4, 4, 3), dtype=np.uint8)
    return np.stack([np.asarray(Image.fromarray(c).resize(size[::-1], Image.Resampling.BICUBIC)) for c in coarse])


def folder(path: Path, images: np.ndarray, suffix: str = "png") -> FolderImages:
    path.mkdir()
    for i, image in enumerate(images):
        Image.fromarray(image).save(path / f"{i:03d}.{suffix}", **LOSSLESS[suffix])
    return FolderImages(str(path), grey=False)


def array(path: Path, images: np.ndarray) -> ArrayImages:
    np.save(path, images.transpose(0, 3, 1, 2))
    return ArrayImages(str(path))


def figures(extractor: FeatureExtractor, real: ImageSet, fake: ImageSet) -> dict[str, float]:
    return {name: result.value for name, result in Evaluation(extractor).compare(real, fake, CPU).items()}


def close(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found.keys() == expected.keys() >= {"fid", "kid", "precision", "recall", "density", "coverage"}
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name


@pytest.mark.parametrize("build", [EfficientNetLite0, Pixels])
def test_no_figure_depends_on_the_file_type_the_folder_or_the_batch(
    build: type[FeatureExtractor], tmp_path: Path
) -> None:
    real, fake = photographs(24, 0), photographs(16, 1)
    expected = figures(build(), array(tmp_path / "real.npy", real), array(tmp_path / "fake.npy", fake))
    assert expected["fid"] > 0.01
    real_files = folder(tmp_path / "real", real)
    for suffix in LOSSLESS if build is Pixels else ("png", "bmp"):
        close(figures(build(), real_files, folder(tmp_path / suffix, fake, suffix)), expected)
    extractor = build()
    extractor.batch_size = 5
    real_files.batch_size = 7
    close(figures(extractor, real_files, array(tmp_path / "again.npy", fake)), expected)


def a_dataset(path: Path, shape: tuple[int, int, int]) -> ImageDataModule:
    """The pictures of a folder as data to train on."""
    source = ImageFolder(str(path), shape, cache_dir=None)
    return ImageDataModule(source, "photographs", shape, batch_size=3)


@pytest.mark.parametrize("shape", [(3, 20, 24), (3, 16, 16), (1, 16, 16)])
def test_a_folder_is_read_alike_to_train_and_to_measure(shape: tuple[int, int, int], tmp_path: Path) -> None:
    """Also pictures of several sizes, on their side or transparent, of which training crops and resizes some."""
    (tmp_path / "train").mkdir()
    exif = Image.Exif()
    exif[274] = 6
    sizes = [(20, 24), (40, 30), (31, 17)]
    for i in range(9):
        image = photographs(1, i, sizes[i % 3])[0]
        if i % 4 == 1:
            image = np.dstack([image, np.full(image.shape[:2], 128, np.uint8)])
        Image.fromarray(image).save(tmp_path / "train" / f"{i}.png", exif=exif if i % 5 == 2 else Image.Exif())
    for split in ("val", "test"):
        (tmp_path / split).mkdir()
        Image.fromarray(photographs(1, 9)[0]).save(tmp_path / split / "0.png")
    trained_on = torch.cat(list(SplitImages(a_dataset(tmp_path, shape), "train")))
    real, fake = open_pair(str(tmp_path / "train"), str(tmp_path / "train"), shape)
    measured = torch.cat(list(real))
    assert real.shape == fake.shape == shape
    assert torch.equal((255 * trained_on).round().byte(), measured)


def test_a_folder_beside_samples_is_measured_in_the_shape_of_training(genlab: Genlab, tmp_path: Path) -> None:
    for i, size in enumerate([(20, 24), (40, 30), (31, 17)] * 4):
        (tmp_path / "photos").mkdir(exist_ok=True)
        Image.fromarray(photographs(1, i, size)[0]).save(tmp_path / "photos" / f"{i}.png")
    array(tmp_path / "samples.npy", photographs(12, 50, (16, 16)))
    pair = f"real={tmp_path / 'photos'}", f"fake={tmp_path / 'samples.npy'}", "metrics.features=pixels"
    refused = genlab("evaluate", *pair)
    assert refused.code == 2
    assert "give both one size (shape=[3,16,16] reads folders as for training)" in refused.err
    refused = genlab("evaluate", pair[0], pair[0].replace("real", "fake"), pair[2])
    assert "must be of one size (shape=[3,64,64] resizes them as for training)" in refused.err
    assert genlab("evaluate", *pair, "shape=[3,16,16]").code == 0
    for wrong, said in {"[3,8,8]": "arrays stay as they are", "[2,8,8]": "channels (1 or 3)", "[3,8]": "shape"}.items():
        result = genlab("evaluate", *pair, f"shape={wrong}")
        assert result.code == 2
        assert said in result.err
        assert result.err.count("\n") == 1
    with pytest.raises(InputError, match="arrays stay as they are"):
        open_pair(str(tmp_path / "photos"), str(tmp_path / "samples.npy"), (3, 8, 8))
