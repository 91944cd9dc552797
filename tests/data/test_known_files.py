"""Published files are known by their hashes: CIFAR-10 in any order, and Inception's weights."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.data import cifar10
from genlab.data.cifar10 import CHECKED, CIFAR10
from genlab.data.images import ImageDataModule
from genlab.errors import InputError
from genlab.metrics.inception import Inception, known_sha256
from support.cifar10_files import write_cifar10

FOLDER = "cifar-10-batches-py"
SAID = "holds all of CIFAR-10, but not in its published files"


def rewrite(root: Path, name: str, order: np.ndarray, labels: int = 0, pixels: int = 0) -> None:
    """Write a file again in another order, with other classes, or with other pixels."""
    path = root / FOLDER / name
    batch = pickle.loads(path.read_bytes(), encoding="bytes")
    batch[b"data"] = batch[b"data"][order] + np.uint8(pixels)
    batch[b"labels"] = [(batch[b"labels"][i] + labels) % 10 for i in order]
    path.write_bytes(pickle.dumps(batch, protocol=2))


def test_cifar10_in_another_order_is_said_and_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_cifar10(tmp_path)
    before = CIFAR10(str(tmp_path)).load()
    rewrite(tmp_path, "data_batch_2", np.random.default_rng(0).permutation(40))
    batches = [tmp_path / FOLDER / f"data_batch_{i}" for i in (1, 5)]
    first, last = (path.read_bytes() for path in batches)
    batches[0].write_bytes(last)
    batches[1].write_bytes(first)
    capsys.readouterr()
    after = CIFAR10(str(tmp_path)).load()
    assert SAID in capsys.readouterr().err
    assert not torch.equal(before["train"].images, after["train"].images)
    assert torch.equal(before["train"].images.sort(0).values, after["train"].images.sort(0).values)


@pytest.mark.parametrize(
    ("name", "change", "split"),
    [
        ("data_batch_4", {"labels": 1}, "train"),
        ("data_batch_4", {"pixels": 1}, "train"),
        ("test_batch", {"labels": 1}, "test"),
        ("data_batch_1", {"order": np.arange(39)}, "train"),
        ("test_batch", {"order": np.r_[0, 0, 2:40]}, "test"),
    ],
)
def test_other_images_or_classes_than_cifar10s_are_refused(
    tmp_path: Path, name: str, change: dict[str, object], split: str
) -> None:
    write_cifar10(tmp_path)
    rewrite(tmp_path, name, **{"order": np.arange(40), **change})  # type: ignore[arg-type]
    with pytest.raises(InputError, match=f"does not hold CIFAR-10: its {split} images or classes are others"):
        CIFAR10(str(tmp_path)).load()


def test_a_swap_between_train_and_test_is_refused(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    one, other = tmp_path / FOLDER / "data_batch_1", tmp_path / FOLDER / "test_batch"
    content = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(content)
    with pytest.raises(InputError, match="does not hold CIFAR-10"):
        CIFAR10(str(tmp_path)).load()


def test_cifar10_is_hashed_once_and_again_if_a_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_cifar10(tmp_path)
    CIFAR10(str(tmp_path)).load()
    kept = tmp_path / FOLDER / CHECKED
    assert json.loads(kept.read_text())["published"] is False
    with monkeypatch.context() as unhashed:
        unhashed.setattr(cifar10, "sorted_sha256", None)
        capsys.readouterr()
        CIFAR10(str(tmp_path)).load()
        assert SAID in capsys.readouterr().err
    rewrite(tmp_path, "test_batch", np.arange(40), labels=1)
    with pytest.raises(InputError, match="does not hold CIFAR-10"):
        CIFAR10(str(tmp_path)).load()
    write_cifar10(tmp_path / "new")
    for text in ("", "[]", "{}", '{"files": 3, "published": true}'):
        (tmp_path / "new" / FOLDER / CHECKED).write_text(text)
        assert CIFAR10(str(tmp_path / "new")).load()


def test_the_published_files_are_not_sorted_and_nothing_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import hashlib

    from torchvision import datasets

    listed = dict([*datasets.CIFAR10.train_list, *datasets.CIFAR10.test_list])
    assert {name: md5 for files in cifar10.FILES.values() for name, md5 in files.items()} == listed
    write_cifar10(tmp_path)
    made_up = {
        split: {name: hashlib.md5((tmp_path / FOLDER / name).read_bytes()).hexdigest() for name in files}
        for split, files in cifar10.FILES.items()
    }
    monkeypatch.setattr(cifar10, "FILES", made_up)
    monkeypatch.setattr(cifar10, "sorted_sha256", None)
    CIFAR10(str(tmp_path)).load()
    CIFAR10(str(tmp_path)).load()
    assert capsys.readouterr().err == ""


def test_a_data_folder_that_cannot_be_written_to_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> None:
        raise PermissionError("read-only")

    monkeypatch.setattr(cifar10, "write_atomically", refused)
    write_cifar10(tmp_path)
    data = ImageDataModule(CIFAR10(str(tmp_path)), "cifar10", (3, 32, 32), num_classes=10, batch_size=16)
    data.setup()
    assert "test_sha256" not in data.protocol
    assert not (tmp_path / FOLDER / CHECKED).exists()


def test_real_cifar10_is_known(mnist_root: str) -> None:
    if not (Path(mnist_root) / FOLDER / "test_batch").is_file():
        pytest.skip(f"CIFAR-10 is not in {mnist_root}")
    splits = CIFAR10(mnist_root).load()
    assert {split: cifar10.sorted_sha256(examples) for split, examples in splits.items()} == cifar10.SORTED_SHA256
    # As published, to all digits, for the training images of the original files.
    means = splits["train"].images.double().mean((0, 2, 3))
    assert means.tolist() == [125.306918046875, 122.950394140625, 113.86538318359375]


# -- Inception ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    """An extractor in place of InceptionV3, which reads any file."""
    monkeypatch.setattr(
        "torch_fidelity.feature_extractor_inceptionv3.FeatureExtractorInceptionV3", lambda *_: torch.nn.Identity()
    )


def test_other_weights_at_inceptions_place_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert known_sha256() == "6726825d"
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    file = tmp_path / "checkpoints" / "weights-inception-2015-12-05-6726825d.pth"
    torch.save({"made": torch.ones(3)}, file)
    with pytest.raises(InputError, match=r"does not hold Inception's weights .* in place of 6726825d\): delete it"):
        Inception()
    # Weights that the user names are the user's choice, and said.
    made_up = Inception(str(file))
    assert not made_up.weights_hash.startswith("6726825d")
    assert "holds other weights than Inception's" in capsys.readouterr().err
    monkeypatch.setattr("genlab.metrics.inception.known_sha256", lambda: made_up.weights_hash[:8])
    assert Inception().weights_hash == Inception(str(file)).weights_hash
    assert capsys.readouterr().err == ""


def test_a_download_of_other_weights_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: None) -> None:
    def elsewhere(url: str, path: str, hash_prefix: str | None = None) -> None:
        assert hash_prefix == "6726825d"
        raise RuntimeError('invalid hash value (expected "6726825d", got "00")')

    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    monkeypatch.setattr("torch.hub.download_url_to_file", elsewhere)
    with pytest.raises(InputError, match=r"could not be downloaded .*invalid hash value"):
        Inception()
