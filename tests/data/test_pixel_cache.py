"""Decoded pictures in the cache: the same images as without it, decoded once, and anew if a picture changes."""

import os
import pickle
from collections import namedtuple
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.data import image_folder, pixel_cache
from genlab.data.image_folder import ImageFolder
from genlab.data.images import ImageDataModule
from genlab.errors import InputError

SHAPE = (3, 8, 8)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for i in range(40):
        path = folder / f"class{i % 2}" / f"{i:02d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        mode = "RGBA" if i == 3 else "RGB"
        Image.fromarray(rng.integers(0, 256, (9, 10, len(mode)), dtype=np.uint8), mode).save(path)
    return folder


def data(photos: Path, cache: Path | None, **options: Any) -> ImageDataModule:
    source = ImageFolder(str(photos), SHAPE, cache_dir=None if cache is None else str(cache), **options)
    found = ImageDataModule(source, "photos", SHAPE, num_classes=2, batch_size=4, val_size=5, test_size=5)
    found.setup()
    return found


def batches(of: ImageDataModule) -> list[torch.Tensor]:
    return [x for split in ("train", "val", "test") for x, _ in of.batches(split)]  # type: ignore[arg-type]


def refuse(*_: Any) -> Any:
    raise AssertionError("a picture is decoded")


@pytest.mark.parametrize("limit", [4.0, 0.0])
def test_a_second_start_decodes_nothing_and_has_the_same_images(
    limit: float, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain, first = data(photos, None, memory_limit_gb=limit), data(photos, tmp_path, memory_limit_gb=limit)
    expected = batches(plain)
    monkeypatch.setattr(image_folder, "read_image", refuse)
    second = data(photos, tmp_path, memory_limit_gb=limit)
    for other in (first, second):
        assert all(map(torch.equal, batches(other), expected))
        assert other.identity == plain.identity
        assert [other.splits[s].fingerprint() for s in other.splits] == [
            plain.splits[s].fingerprint() for s in plain.splits
        ]
    assert isinstance(second.source, ImageFolder)
    assert "with transparency, laid over white 1" in second.source.found
    assert (second.splits["train"].images is None) == (limit == 0)


def test_a_worker_reads_the_file_for_itself(photos: Path, tmp_path: Path) -> None:
    of = data(photos, tmp_path, memory_limit_gb=0.0).splits["test"]
    size = len(pickle.dumps(of.read))
    assert size < 20_000  # the names of files, and no pixels
    again = pickle.loads(pickle.dumps(of.read))
    assert torch.equal(again(2), of.take(torch.tensor([2]))[0])
    many = torch.tensor([4, 0, 4])
    assert torch.equal(of.take(many), torch.stack([of.read(int(i)) for i in many]))  # type: ignore[misc]


def test_a_picture_that_changes_is_decoded_again(photos: Path, tmp_path: Path) -> None:
    before = batches(data(photos, tmp_path))
    Image.new("RGB", (8, 8), "red").save(photos / "class0" / "00.png")
    os.utime(photos / "class0" / "00.png", ns=(1, 1))
    after = batches(data(photos, tmp_path))
    assert not all(map(torch.equal, before, after))
    assert all(map(torch.equal, after, batches(data(photos, None))))


def test_a_damaged_file_is_made_anew(photos: Path, tmp_path: Path) -> None:
    expected = batches(data(photos, tmp_path))
    (path,) = (tmp_path / "pictures").glob("*.npy")
    path.write_bytes(path.read_bytes()[:500])
    assert all(map(torch.equal, batches(data(photos, tmp_path)), expected))
    (path,) = (tmp_path / "pictures").glob("*.npy")
    assert path.stat().st_size == 128 + 40 * 3 * 8 * 8


def test_without_room_the_pictures_are_decoded_into_memory(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(pixel_cache.shutil, "disk_usage", lambda _: usage(1, 1, 0))
    assert all(map(torch.equal, batches(data(photos, tmp_path)), batches(data(photos, None))))
    assert "pictures are decoded at every start" in capsys.readouterr().err
    assert not list((tmp_path / "pictures").iterdir())


def test_a_picture_that_cannot_be_read_leaves_no_file(photos: Path, tmp_path: Path) -> None:
    (photos / "class1" / "39.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"39\.png"):
        data(photos, tmp_path)
    assert not list((tmp_path / "pictures").iterdir())


@pytest.mark.parametrize(("cached", "limit"), [(True, 4.0), (False, 4.0), (False, 0.0)])
def test_all_damaged_pictures_are_named_at_once_and_none_is_kept(
    cached: bool, limit: float, photos: Path, tmp_path: Path
) -> None:
    cut = photos / "class0" / "00.png"
    cut.write_bytes(cut.read_bytes()[:60])
    (photos / "class1" / "39.png").write_bytes(b"")
    (photos / "class1" / "21.png").write_text("no picture")
    with pytest.raises(InputError, match=r"^3 pictures cannot be used: ") as told:
        data(photos, tmp_path if cached else None, memory_limit_gb=limit)
    for name, advice in (("00.png", "repair it"), ("39.png", "the file is empty"), ("21.png", "convert it")):
        assert any(name in part and advice in part for part in str(told.value).split("; "))
    assert not list(tmp_path.rglob("pictures-*.npy"))


def test_of_many_damaged_pictures_the_first_are_named_and_the_others_counted(photos: Path) -> None:
    for path in photos.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(InputError, match=r"^40 pictures cannot be used: .*class0/00\.png.*; and 20 more$"):
        data(photos, None)
