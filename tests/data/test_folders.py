"""Folders of images and texts: nothing in them is lost without a word, and their names mean what people mean."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from omegaconf import OmegaConf
from PIL import Image

from genlab.composition.building import build
from genlab.composition.configs import composed
from genlab.data import folders
from genlab.data.folders import find_files
from genlab.data.image_folder import ImageFolder
from genlab.data.image_sets import FolderImages
from genlab.data.images import ImageDataModule
from genlab.data.text_sources import TextFiles
from genlab.errors import InputError
from support.command import Genlab
from support.image_folders import write_images

SHAPE = (3, 8, 8)
QUICK = ("model=vae/vae", "model.networks.hidden=[4]", "dataset.shape=[3,8,8]", "dataset.batch_size=4", "logger=csv")


@pytest.fixture(autouse=True)
def _every_line_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_said", set())


def loaded(path: Path, **options: float) -> tuple[dict[str, list[int]], str]:
    """The classes of the images in each split, and the line about them."""
    source = ImageFolder(str(path), SHAPE, **options)
    return {split: examples.labels.tolist() for split, examples in source.load().items()}, source.found


# -- splits ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("train", "val", "test"),
    [
        ("train", "valid", "test"), ("training", "validation", "testing"), ("Train", "Val", "Test"),
        ("TRAIN", "dev", "TEST"), ("Training", "Validation", "test"),
    ],
)  # fmt: skip
def test_names_of_splits(tmp_path: Path, train: str, val: str, test: str) -> None:
    for name, count in ((train, 5), (val, 3), (test, 2)):
        write_images(tmp_path / name, count, (8, 8))
    found, line = loaded(tmp_path)
    assert {split: len(labels) for split, labels in found.items()} == {"train": 5, "val": 3, "test": 2}
    assert line == f"{tmp_path}: train 5 images, val 3 images, test 2 images"


def test_two_folders_of_one_split_are_refused(tmp_path: Path) -> None:
    for name in ("train", "val", "valid"):
        write_images(tmp_path / name, 2, (8, 8))
    with pytest.raises(InputError, match=r"val and .*valid are both there: keep one of them"):
        loaded(tmp_path)


def test_a_test_split_without_train_is_no_class(tmp_path: Path) -> None:
    for name in ("images", "test"):
        write_images(tmp_path / name, 2, (8, 8))
    with pytest.raises(InputError, match="has test/ and no train/"):
        loaded(tmp_path)


def test_a_class_may_be_called_dev(tmp_path: Path) -> None:
    for name in ("dev", "ops"):
        write_images(tmp_path / name, 2, (8, 8))
    assert loaded(tmp_path)[0] == {"train": [0, 0, 1, 1]}


def test_what_lies_beside_the_splits_is_counted(tmp_path: Path) -> None:
    write_images(tmp_path / "train", 4, (8, 8))
    write_images(tmp_path / "unlabelled", 3, (8, 8))
    write_images(tmp_path, 2, (8, 8))
    (tmp_path / "labels.csv").write_text("a,b\n")
    found, line = loaded(tmp_path)
    assert len(found["train"]) == 4
    assert line.endswith("left out: images in unlabelled/ 3, images beside train/ 2, .csv 1")


# -- classes, links and what programs leave behind ---------------------------------------------------------------------


def test_linked_folders_are_classes(tmp_path: Path) -> None:
    write_images(tmp_path / "set" / "dog", 4, (8, 8))
    write_images(tmp_path / "elsewhere", 3, (8, 8))
    (tmp_path / "set" / "cat").symlink_to(tmp_path / "elsewhere")
    found, line = loaded(tmp_path / "set")
    assert found["train"] == [0, 0, 0, 1, 1, 1, 1]
    assert line == f"{tmp_path / 'set'}: 7 images (dog 4, cat 3)"
    assert len(FolderImages(str(tmp_path / "set"), grey=False)) == 7
    for name in ("train", "test"):
        (tmp_path / "splits").mkdir(exist_ok=True)
        (tmp_path / "splits" / name).symlink_to(tmp_path / "set")
    assert {split: len(labels) for split, labels in loaded(tmp_path / "splits")[0].items()} == {"train": 7, "test": 7}


def test_links_in_a_circle_are_cut(tmp_path: Path) -> None:
    write_images(tmp_path / "set" / "dog", 4, (8, 8))
    write_images(tmp_path / "other", 5, (8, 8))
    (tmp_path / "set" / "itself").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "above").symlink_to(tmp_path)
    (tmp_path / "set" / "dog" / "dog").symlink_to(tmp_path / "set" / "dog")
    (tmp_path / "set" / "x").symlink_to("x")
    found, line = loaded(tmp_path / "set")
    assert len(found["train"]) == 4
    assert "links in a circle 3, links that lead nowhere 1" in line


def test_what_programs_leave_behind_is_no_class(tmp_path: Path) -> None:
    write_images(tmp_path / "cat", 3, (8, 8))
    write_images(tmp_path / "dog", 3, (8, 8))
    for name in (".ipynb_checkpoints", "__MACOSX", "@eaDir", ".git"):
        write_images(tmp_path / name, 2, (8, 8))
        write_images(tmp_path / "cat" / name, 2, (8, 8))
    (tmp_path / "cat" / "._0001.png").write_bytes(b"a resource fork")
    (tmp_path / "hamster").mkdir()
    found, line = loaded(tmp_path)
    assert found["train"] == [0, 0, 0, 1, 1, 1]
    assert ".ipynb_checkpoints/ 2" in line
    assert "hidden files 1" in line
    assert line.endswith("no images in hamster")


def test_files_that_are_not_read_are_counted(tmp_path: Path) -> None:
    write_images(tmp_path, 3, (8, 8))
    for name in ("a.heic", "b.HEIC", "notes.txt", "noext"):
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "gone.png").symlink_to(tmp_path / "nowhere.png")
    found, line = loaded(tmp_path)
    assert len(found["train"]) == 3
    assert line.endswith("left out: .heic 2, .txt 1, links that lead nowhere 1, no suffix 1")
    FolderImages(str(tmp_path), grey=False)
    assert FolderImages(str(tmp_path), grey=False).found.endswith(line.partition("left out")[2])


def test_more_suffixes_are_read(tmp_path: Path) -> None:
    picture = Image.fromarray(np.full((8, 8, 3), 99, np.uint8))
    for name, form in (("a.jfif", "JPEG"), ("b.JPE", "JPEG"), ("c.jp2", "JPEG2000"), ("d.apng", "PNG")):
        picture.save(tmp_path / name, format=form)
    assert len(loaded(tmp_path)[0]["train"]) == 4


def test_images_outside_of_class_folders_are_said(tmp_path: Path) -> None:
    write_images(tmp_path / "cat", 3, (8, 8))
    write_images(tmp_path, 2, (8, 8))
    found, line = loaded(tmp_path)
    assert len(found["train"]) == 5
    assert line.endswith("5 images (cat 3, outside of class folders 2)")


def test_many_classes_are_summed_up(tmp_path: Path) -> None:
    for k in range(20):
        write_images(tmp_path / f"{k:02d}", 1 + k % 3, (8, 8))
    assert loaded(tmp_path)[1].endswith("(20 classes of 1 to 3)")


def test_nothing_to_read_says_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.heic").write_bytes(b"x")
    with pytest.raises(InputError, match=r"there are no images in .*; left out: \.heic 1\)"):
        loaded(tmp_path)


def test_an_unreadable_folder_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(_: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("genlab.data.folders.os.scandir", forbidden)
    with pytest.raises(InputError, match=r"cannot be read \(Permission denied\)"):
        find_files(tmp_path, {".png"})


# -- what was done to the pictures -------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [4.0, 0.0])
def test_what_was_done_to_pictures_is_counted(tmp_path: Path, limit: float) -> None:
    write_images(tmp_path, 3, (8, 8))
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(tmp_path / "turned.png", exif=exif)
    for i in range(2):
        Image.fromarray(np.zeros((8, 8, 4), np.uint8)).save(tmp_path / f"clear{i}.png")
    line = loaded(tmp_path, memory_limit_gb=limit)[1]
    assert line.endswith("6 images; with transparency, laid over white 2, turned as EXIF says 1")


def test_all_ways_of_reading_agree(tmp_path: Path) -> None:
    """16 bits, turned and transparent: in memory, by workers, and as a set to compare with."""
    rng = np.random.default_rng(0)
    exif = Image.Exif()
    exif[274] = 8
    for i in range(6):
        Image.fromarray(rng.integers(0, 65536, (8, 8)).astype(np.uint16)).save(tmp_path / f"{i}.png", exif=exif)
        Image.fromarray(rng.integers(0, 256, (8, 8, 4)).astype(np.uint8)).save(tmp_path / f"{i}a.png", exif=exif)
    kept = ImageFolder(str(tmp_path), SHAPE).load()["train"].images
    read = ImageFolder(str(tmp_path), SHAPE, 0.0).load()["train"].take(torch.arange(12))
    compared = torch.cat(list(FolderImages(str(tmp_path), grey=False)))
    assert kept is not None
    assert torch.equal(kept, read)
    assert torch.equal(kept, compared)
    assert 100 < kept.float().mean() < 200
    data = ImageDataModule(ImageFolder(str(tmp_path), SHAPE), "folder", SHAPE, batch_size=2)
    data.setup()
    assert "transparency over white" in str(data.protocol["pictures"])
    assert FolderImages(str(tmp_path), grey=False).facts == {"pictures": data.protocol["pictures"]}


def test_names_need_not_be_utf8(tmp_path: Path) -> None:
    write_images(tmp_path, 2, (8, 8))
    os.rename(tmp_path / "0001.png", os.fsencode(tmp_path) + b"/\xff\xfe.png")
    assert len(FolderImages(str(tmp_path), grey=False).fingerprint) == 64
    assert len(ImageFolder(str(tmp_path), SHAPE, 0.0).load()["train"].fingerprint()) == 64


# -- texts -------------------------------------------------------------------------------------------------------------


def test_folders_of_texts_are_walked_alike(tmp_path: Path) -> None:
    (tmp_path / "set" / ".ipynb_checkpoints").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    for path in ("set/a.txt", "set/b.MD", "set/c.pdf", "set/.ipynb_checkpoints/a.txt", "elsewhere/z.txt"):
        (tmp_path / path).write_text(path)
    (tmp_path / "set" / "more").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "set" / "more2").symlink_to(tmp_path / "set")
    source = TextFiles(str(tmp_path / "set"))
    assert source.read() == "set/a.txt\n\nset/b.MD\n\nelsewhere/z.txt"
    assert source.found == (
        f"{tmp_path / 'set'}: 3 texts; left out: .ipynb_checkpoints/ 1, .pdf 1, links in a circle 1"
    )


def test_a_text_says_what_was_left_out(genlab: Genlab, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("to be or not to be " * 200)
    (tmp_path / "b.pdf").write_bytes(b"%PDF")
    result = genlab(
        "train", "dataset=text", f"dataset.source.path={tmp_path}", "dataset.shape=[8]", "model=transformer/gpt",
        "model.width=8", "model.num_layers=1", "model.num_heads=1", "debug=fast_dev_run", "logger=csv",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert result.err.count(f"genlab: {tmp_path}: 1 texts; left out: .pdf 1") == 1


# -- the command -------------------------------------------------------------------------------------------------------


def test_class_folders_need_not_be_counted_by_hand(genlab: Genlab, tmp_path: Path) -> None:
    for name in ("cat", "dog", "owl"):
        write_images(tmp_path / "set" / name, 9, (8, 8))
    where = ("dataset=image_folder", f"dataset.source.path={tmp_path / 'set'}", *QUICK, "debug=fast_dev_run")
    result = genlab("train", *where, "model.num_classes=${dataset.num_classes}")
    assert result.code == 0, result.err
    assert "num_classes: 3" in (result.run / "config.yaml").read_text()
    assert result.err.count(f"genlab: {tmp_path / 'set'}: 27 images (cat 9, dog 9, owl 9)\n") == 1
    refused = genlab("train", *where, "model.num_classes=10")
    assert refused.code == 2
    assert refused.err == "genlab: error: model.num_classes=10, and dataset=image_folder has 3 classes\n"


def test_a_folder_without_classes_has_none(genlab: Genlab, tmp_path: Path) -> None:
    write_images(tmp_path / "set" / "all", 20, (8, 8))
    where = ("dataset=image_folder", f"dataset.source.path={tmp_path / 'set'}", *QUICK, "debug=fast_dev_run")
    refused = genlab("train", *where, "model.num_classes=2")
    assert refused.err == "genlab: error: model.num_classes=2, and dataset=image_folder has no classes\n"


def test_a_palette_of_a_folder_of_colour_images(tmp_path: Path) -> None:
    write_images(tmp_path, 30, (8, 8))
    given = [f"dataset.of.source.path={tmp_path}", "dataset.of.shape=[3,8,8]", "dataset.of.batch_size=4"]
    given += ["dataset.num_colours=4", "dataset.cache_dir=null", "dataset.batch_size=4"]
    config = composed("train", ["dataset=palette", "dataset@dataset.of=image_folder", *given])
    data = build(OmegaConf.to_container(config.dataset, resolve=True), "dataset")
    data.setup()
    assert data.shape == (1, 8, 8)
