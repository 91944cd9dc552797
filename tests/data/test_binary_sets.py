"""The data sets of bits: the static binarized MNIST and the UCI sets, on small files of the same formats."""

import gzip
import hashlib
import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.data import static_mnist, uci_binary
from genlab.data.images import ImageDataModule
from genlab.data.static_mnist import StaticMNIST
from genlab.data.uci_binary import UCIBinary
from genlab.errors import InputError
from genlab.machine.downloads import download
from genlab.pictures.grid import grid
from support.command import Genlab

Bits = dict[str, np.ndarray]


@pytest.fixture
def bits(monkeypatch: pytest.MonkeyPatch) -> Bits:
    """A few rows of bits for each split; their hashes stand where those of the real files do."""
    random = np.random.default_rng(0)
    rows = {name: random.integers(0, 2, (count, 784), dtype=np.uint8) for name, count in _SIZES.items()}
    md5 = {name: hashlib.md5(_text(row)).hexdigest() for name, row in rows.items()}
    sha256 = {name: hashlib.sha256(np.packbits(row).tobytes()).hexdigest() for name, row in rows.items()}
    monkeypatch.setattr(static_mnist, "MD5", md5)
    monkeypatch.setattr(static_mnist, "SHA256", sha256)
    return rows


_SIZES = {"train": 7, "valid": 3, "test": 5}


def _text(rows: np.ndarray) -> bytes:
    return "".join(" ".join(map(str, row)) + " \n" for row in rows).encode()


def _write(root: Path, rows: Bits, compressed: bool = False) -> list[Path]:
    folder = root / "binarized_mnist"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, row in rows.items():
        path = folder / f"binarized_mnist_{name}.amat{'.gz' if compressed else ''}"
        path.write_bytes(gzip.compress(_text(row)) if compressed else _text(row))
        paths.append(path)
    return paths


@pytest.mark.parametrize("compressed", [False, True])
def test_static_mnist_is_read_from_its_texts_and_then_from_its_cache(
    bits: Bits, tmp_path: Path, compressed: bool
) -> None:
    files = _write(tmp_path, bits, compressed)
    source = StaticMNIST(str(tmp_path), str(tmp_path / "cache"))
    for _ in range(2):
        splits = source.load()
        for split, name in static_mnist.NAMES.items():
            assert splits[split].images is not None
            assert torch.equal(splits[split].images, torch.from_numpy(bits[name]).view(-1, 1, 28, 28))
        for path in files:  # the second time, only the cache is left
            path.unlink(missing_ok=True)


def test_a_damaged_cache_is_not_believed(bits: Bits, tmp_path: Path) -> None:
    _write(tmp_path, bits)
    source = StaticMNIST(str(tmp_path), str(tmp_path / "cache"))
    source.load()
    kept = tmp_path / "cache" / "static_mnist" / "test"
    content = bytearray(kept.read_bytes())
    content[3] ^= 1
    kept.write_bytes(content)
    images = source.load()["test"].images
    assert images is not None
    assert torch.equal(images, torch.from_numpy(bits["test"]).view(-1, 1, 28, 28))


def test_another_file_in_the_place_of_static_mnist_is_refused(bits: Bits, tmp_path: Path) -> None:
    path = _write(tmp_path, bits)[0]
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    with pytest.raises(InputError, match="its md5 differs"):
        StaticMNIST(str(tmp_path)).load()
    path = _write(tmp_path / "gz", bits, compressed=True)[0]
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match="cannot be unpacked"):
        StaticMNIST(str(tmp_path / "gz")).load()


def test_the_real_static_mnist() -> None:
    root = Path(os.environ.get("GENLAB_DATA", "data"))
    if not any((root / "binarized_mnist").glob("*.amat*")):
        pytest.skip(f"there is no binarized_mnist/ in {root}")
    splits = StaticMNIST(str(root), os.environ["GENLAB_CACHE"]).load()
    assert [len(splits[split]) for split in ("train", "val", "test")] == [50_000, 10_000, 10_000]
    images = splits["test"].images
    assert images is not None
    assert images[:, 0, 14, 14].float().mean() > 0.3  # a digit has ink in the middle,
    assert images[:, 0, 0].sum() == 0  # and none at the border


def test_bits_reach_models_as_they_are_stored(bits: Bits, tmp_path: Path) -> None:
    _write(tmp_path, bits)
    data = ImageDataModule(
        StaticMNIST(str(tmp_path)), "bits", (1, 28, 28), kind="binary", levels=2, source_levels=2, batch_size=2
    )
    data.setup()
    for split, name in static_mnist.NAMES.items():
        assert torch.equal(data.first(split).flatten(1), torch.from_numpy(bits[name]).float())
    assert data.protocol["binarization"] == "stored as bits"


def _npz(rows: Bits) -> bytes:
    file = io.BytesIO()
    np.savez_compressed(file, **{f"{name}_data": row.astype(np.float32) for name, row in rows.items()})
    return file.getvalue()


def test_uci_sets_are_rows_of_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    rows = {name: random.integers(0, 2, (count, 180), dtype=np.uint8) for name, count in _SIZES.items()}
    content = _npz(rows)
    monkeypatch.setattr(uci_binary, "SHA256", {"dna": hashlib.sha256(content).hexdigest()})
    path = tmp_path / "uci_binary" / "dna.npz"
    path.parent.mkdir()
    path.write_bytes(content)
    splits = UCIBinary("dna", str(tmp_path)).load()
    for split, name in static_mnist.NAMES.items():
        assert splits[split].images is not None
        assert torch.equal(splits[split].images, torch.from_numpy(rows[name]).view(-1, 1, 1, 180))
    path.write_bytes(_npz({name: 1 - row for name, row in rows.items()}))
    with pytest.raises(InputError, match="is not the file that MADE's authors publish"):
        UCIBinary("dna", str(tmp_path)).load()


@pytest.mark.parametrize("dataset", ["static_mnist", "uci_binary"])
def test_files_that_cannot_be_had_are_named(
    genlab: Genlab, dataset: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("urllib.request.urlopen", unreachable)
    options = (f"dataset={dataset}", f"paths.data_dir={tmp_path}", f"paths.cache_dir={tmp_path}/cache")
    refused = genlab("train", "model=autoregressive/fvsbn", *options)
    assert refused.code == 2
    assert "could not be downloaded" in refused.err
    assert "dataset.source.root=..." in refused.err


def test_an_unknown_uci_set_is_refused_with_those_that_exist(genlab: Genlab) -> None:
    refused = genlab("train", "model=autoregressive/fvsbn", "dataset=uci_binary", "dataset.name=musk")
    assert refused.code == 2
    assert "dataset.name=musk: choose dna, mushrooms, nips" in refused.err


def test_a_download_is_kept_only_if_its_hash_is_right(tmp_path: Path) -> None:
    there = tmp_path / "there"
    there.write_bytes(b"abc")
    right, wrong = hashlib.sha256(b"abc").hexdigest(), hashlib.sha256(b"abd").hexdigest()
    with pytest.raises(OSError, match=r"the sha256 of what .* sent is wrong"):
        download(there.as_uri(), tmp_path / "new" / "file", wrong)
    assert not (tmp_path / "new").exists()
    download(there.as_uri(), tmp_path / "new" / "file", right)
    assert (tmp_path / "new" / "file").read_bytes() == b"abc"


def test_rows_of_bits_are_shown_below_each_other() -> None:
    sheet = grid(torch.ones(64, 1, 1, 112))
    assert sheet.width < 300
    assert 200 < sheet.height < 300
    square = grid(torch.ones(64, 1, 28, 28))
    assert square.width == square.height == 8 * (2 * 28 + 2) + 2
