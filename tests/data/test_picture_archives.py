"""Pictures in tars and Parquet files: those of a folder of the same files, listed and decoded once."""

import json
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.data.image_folder import ImageFolder
from genlab.data.images import ImageDataModule
from genlab.data.parquet_images import ParquetImages
from genlab.data.picture_archives import PictureArchives, split_of
from genlab.data.picture_source import PictureSource
from genlab.data.webdataset import WebDataset
from genlab.errors import InputError
from support.command import Genlab
from support.picture_archives import write_parquet, write_tar

SHAPE = (3, 8, 8)
CLASSES = ("cat", "dog")


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a class in each subfolder, and pictures of several formats, sizes and kinds."""
    folder = tmp_path / "photos"
    rng = np.random.default_rng(0)
    for i in range(60):
        mode, suffix = [("RGB", "png"), ("RGBA", "png"), ("L", "webp"), ("RGB", "jpg"), ("I;16", "png")][i % 5]
        path = folder / CLASSES[i // 30] / f"{i:02d}.{suffix}"
        path.parent.mkdir(parents=True, exist_ok=True)
        size = (9 + i % 3, 10)
        if mode == "I;16":
            picture = Image.fromarray(rng.integers(0, 2**16, size, dtype=np.uint16))
        else:
            channels = {"RGB": (3,), "RGBA": (4,), "L": ()}[mode]
            picture = Image.fromarray(rng.integers(0, 256, (*size, *channels), dtype=np.uint8), mode)
        exif = Image.Exif()
        if i == 3:
            exif[0x0112] = 6
        picture.save(path, exif=exif)
    return folder


def files_of(photos: Path) -> list[Path]:
    return sorted(photos.rglob("*.*"))


def as_tars(photos: Path, to: Path) -> WebDataset:
    files = files_of(photos)
    for number in range(3):
        members = []
        for file in files[20 * number : 20 * number + 20]:
            members += [(f"{file.stem}.cls", f"{file.parent.name}\n".encode()), (file.name, file.read_bytes())]
            members += [(f"{file.stem}.txt", b"a caption")]
        write_tar(to / f"{number:03d}.tar", members)
    return WebDataset(str(to), SHAPE)


def as_parquet(photos: Path, to: Path, rows: int | None = 7) -> ParquetImages:
    pytest.importorskip("pyarrow")
    files = files_of(photos)
    for number in range(3):
        part = files[20 * number : 20 * number + 20]
        labels = [CLASSES.index(file.parent.name) for file in part]
        write_parquet(to / f"train-{number:05d}-of-00003.parquet", part, labels, CLASSES, rows)
    return ParquetImages(str(to), SHAPE)


KINDS = pytest.mark.parametrize("pack", [as_tars, as_parquet])
Pack = Callable[[Path, Path], PictureArchives]


def copy_of(source: PictureArchives, **options: Any) -> PictureArchives:
    return type(source)(str(source.path), source.shape, **options)


def data(source: PictureSource, **options: Any) -> ImageDataModule:
    made = ImageDataModule(source, "photos", source.shape, num_classes=2, batch_size=4, **options)
    made.setup()
    return made


@KINDS
@pytest.mark.parametrize("limit", [4.0, 0.0])
@pytest.mark.parametrize("cached", [True, False])
def test_the_images_are_those_of_a_folder_of_the_same_files(
    pack: Pack, limit: float, cached: bool, photos: Path, tmp_path: Path
) -> None:
    expected = ImageFolder(str(photos), SHAPE).load()["train"]
    cache = str(tmp_path / "cache") if cached else None
    source = copy_of(pack(photos, tmp_path / "packed"), memory_limit_gb=limit, cache_dir=cache)
    found = source.load()["train"]
    every = torch.arange(len(expected))
    assert torch.equal(found.take(every), expected.take(every))
    assert torch.equal(found.labels, expected.labels)
    assert (found.images is None) == (limit == 0)
    assert source.class_names() == list(CLASSES)
    assert "train 60 images of 3 files (cat 30, dog 30); " in source.found
    assert "of more than 8 bits, scaled to 8 12" in source.found
    assert "turned as EXIF says 1" in source.found
    if limit == 0:
        backwards = every.flip(0)
        assert torch.equal(pickle.loads(pickle.dumps(found)).take(backwards), expected.take(backwards))


@KINDS
def test_a_second_start_reads_nothing_of_the_files(pack: Pack, photos: Path, tmp_path: Path) -> None:
    source = pack(photos, tmp_path / "packed")
    options = {"cache_dir": str(tmp_path / "cache"), "memory_limit_gb": 0.0}
    first = data(copy_of(source, **options))
    before = [(first.first(split), first.splits[split].labels, first.sha256(split)) for split in first.splits]
    for path in source.path.iterdir():
        times = path.stat().st_atime_ns, path.stat().st_mtime_ns
        path.write_bytes(b"x" * path.stat().st_size)
        os.utime(path, ns=times)
    second = data(copy_of(source, **options))
    assert isinstance(second.source, PictureArchives)
    assert second.source.class_names() == list(CLASSES)
    assert isinstance(first.source, PictureArchives)
    assert second.source.found == first.source.found
    for split, (images, labels, sha256) in zip(second.splits, before, strict=True):
        assert torch.equal(second.first(split), images)
        assert torch.equal(second.splits[split].labels, labels)
        assert second.sha256(split) == sha256
    os.utime(path, ns=(1, 1))  # with another time, it is another file
    with pytest.raises(InputError, match="cannot be read as"):
        data(copy_of(source, **options))


@KINDS
def test_the_identity_is_the_same_elsewhere_and_another_with_other_pictures(
    pack: Pack, photos: Path, tmp_path: Path
) -> None:
    source = copy_of(pack(photos, tmp_path / "packed"), memory_limit_gb=0.0)
    identity = data(source).identity
    (tmp_path / "packed").rename(tmp_path / "moved")
    moved = type(source)(str(tmp_path / "moved"), SHAPE, memory_limit_gb=0.0)
    assert data(moved).identity == identity
    Image.new("RGB", (9, 10), "red").save(files_of(photos)[0])
    changed = copy_of(pack(photos, tmp_path / "other"), memory_limit_gb=0.0)
    assert data(changed).identity != identity


@KINDS
def test_a_further_file_moves_no_picture_between_the_splits(pack: Pack, photos: Path, tmp_path: Path) -> None:
    source = pack(photos, tmp_path / "packed")
    held_out = {split: set(data(source).splits[split].names or ()) for split in ("val", "test")}  # type: ignore[index]
    assert all(held_out.values())
    name = next(source.path.iterdir())
    name.with_name(name.name.replace("0000", "9").replace("000", "9")).write_bytes(name.read_bytes())
    more = data(copy_of(source))
    for split, names in held_out.items():
        assert names <= set(more.splits[split].names or ())  # type: ignore[index]
        assert not names & set(more.splits["train"].names or ())


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train-00000-of-00002.parquet", "train"),
        ("data/validation-00000-of-00001.parquet", "val"),
        ("imagenet1k-train-0000.tar", "train"),
        ("Test/000.tar", "test"),
        ("default/dev/0000.parquet", "val"),
        ("train/test.tar", "test"),  # the nearest name
        ("test000.tar", "test"),
        ("000.tar", None),
        ("trainer.tar", None),
        ("latest/contest-0.tar", None),
    ],
)
def test_a_name_says_the_split(name: str, split: str | None) -> None:
    assert split_of(Path(name)) == split


def test_splits_of_files_and_what_lies_beside_them(photos: Path, tmp_path: Path) -> None:
    files = files_of(photos)

    def members(part: list[Path]) -> list[tuple[str, bytes]]:
        labels = [(f"{f.stem}.json", json.dumps({"label": CLASSES.index(f.parent.name)}).encode()) for f in part]
        return labels + [(f.name, f.read_bytes()) for f in part]  # sorted by kind, as some programs write them

    packed = tmp_path / "packed"
    write_tar(packed / "a-train-0.tar", members(files[:50]))
    write_tar(packed / "test" / "0.tar", members(files[50:]))
    write_tar(packed / "extra.tar", members(files[:1]))
    (packed / "README.md").touch()
    source = WebDataset(str(packed), SHAPE)
    splits = source.load()
    assert {split: len(examples) for split, examples in splits.items()} == {"train": 50, "test": 10}
    assert splits["test"].labels.tolist() == [1] * 10
    assert source.class_names() == ["0", "1"]
    assert "left out: .md 1, .tar files of no split 1" in source.found
    assert WebDataset(str(packed), SHAPE, label=None).class_names() == []
    (packed / "a-train-0.tar").rename(packed / "a.tar")
    with pytest.raises(InputError, match="of the split test, and no file is of train"):
        WebDataset(str(packed), SHAPE).load()
    one = WebDataset(str(packed / "test" / "0.tar"), SHAPE).load()
    assert len(one["train"]) == 10
    write_tar(packed / "train-test.tar", members(files[:1]))
    with pytest.raises(InputError, match="named after train and after test"):
        WebDataset(str(packed), SHAPE).load()


def test_parts_of_an_example_are_chosen_by_name(photos: Path, tmp_path: Path) -> None:
    one, two = (file.read_bytes() for file in files_of(photos)[:6:5])
    members = [("a/1.left.png", one), ("a/1.right.PNG", two), ("a/1.json", b'{"kind": {"deep": 1}, "name": "x"}')]
    members += [("a/2.left.png", two), ("a/2.right.png", one), ("a/2.json", b'{"kind": {"deep": 1}, "name": "y"}')]
    members += [("a/._1.left.png", one), ("a/3.txt", b"no picture")]
    write_tar(tmp_path / "a.tar", members)
    folder = str(tmp_path)
    with pytest.raises(InputError, match=r"a\.tar/a/1 has the pictures left\.png and right\.png .*image=left\.png"):
        WebDataset(folder, SHAPE).load()
    source = WebDataset(folder, SHAPE, image="right.png", label="json.name")
    found = source.load()["train"]
    assert found.labels.tolist() == [0, 1]
    assert source.class_names() == ["x", "y"]
    assert found.names == ["a.tar/a/1.right.png", "a.tar/a/2.right.png"]
    assert "examples without a picture 1, hidden files 1" in source.found
    with pytest.raises(InputError, match=r"1\.json gives the label as dict: classes are integers or texts"):
        WebDataset(folder, SHAPE, image="right.png", label="json.kind").load()


def test_tars_that_cannot_be_read(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"there is no .*none: give a folder of \.tar files"):
        WebDataset(str(tmp_path / "none"), SHAPE).load()
    write_tar(tmp_path / "packed" / "0.tar", [])
    with pytest.raises(InputError, match=r"left out: \.tar 1; those are read by dataset=webdataset"):
        ImageFolder(str(tmp_path / "packed"), SHAPE).load()
    with pytest.raises(InputError, match=r"there are no \.tar files in .*dataset=image_folder.*left out: \.png 36"):
        WebDataset(str(photos), SHAPE).load()
    file = files_of(photos)[0]
    path = tmp_path / "tars" / "0.tar"
    source = WebDataset(str(path.parent), SHAPE)
    members = [("1.png", file.read_bytes()), ("2.png", file.read_bytes()), ("2.cls", b"3")]

    def line(content: bytes | None = None) -> str:
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(InputError) as error:
            source.load()
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)
        return str(error.value)

    write_tar(path, members)
    assert "1.png has no label, and others of train have one" in line()
    write_tar(path, members[:2])
    whole = path.read_bytes()
    half = len(file.read_bytes()) + 511 & ~511
    assert "cannot be read as a tar (unexpected end of data): copy it again" in line(whole[: 512 + half + 512 + 20])
    assert "ends without the two empty blocks" in line(whole[: 2 * (512 + half)])
    path.write_bytes(whole[: 2 * (512 + half)] + b"\0" * 1024)
    assert len(source.load()["train"]) == 2
    assert "is damaged, or is several tars in one" in line(whole[: 512 + half] + b"x" * 512 + whole[1024 + half :])
    assert "is damaged, or is several tars in one" in line(whole + whole)
    assert "is compressed (gzip)" in line(b"\x1f\x8b" + whole)
    assert "cannot be read as a tar" in line(b"no tar" * 200)
    assert "cannot be read as a tar (empty file)" in line(b"")
    write_tar(path, [("1.png", file.read_bytes()), ("2.png", b"no picture")])
    assert "0.tar/2.png cannot be read as an image (its content is of no format that is read)" in line()
    write_tar(path, [("1.png", file.read_bytes()), ("2.png", file.read_bytes()[:60])])
    assert "0.tar/2.png cannot be read as an image" in line()
    write_tar(path, [("1.txt", b"")])
    assert "has no pictures" in line()


def test_labels_of_parquet_files(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    files = files_of(photos)[:4]
    path = tmp_path / "a.parquet"

    def read(labels: list[Any] | None, names: tuple[str, ...] | None = None, **options: Any) -> tuple[Any, list[str]]:
        write_parquet(path, files, labels, names)
        source = ParquetImages(str(path), SHAPE, **options)
        return source.load()["train"].labels.tolist(), source.class_names()

    assert read([0, 2, 2, 0], ("a", "b", "c")) == ([0, 2, 2, 0], ["a", "b", "c"])
    assert read([10, 30, 30, 10]) == ([0, 1, 1, 0], ["10", "30"])
    assert read(["x", "y", "y", "x"]) == ([0, 1, 1, 0], ["x", "y"])
    assert read([True, False, False, True]) == ([1, 0, 0, 1], ["0", "1"])
    assert read([0.5, 1.0, 1.0, 0.5], label=None) == ([0] * 4, [])
    assert read(None) == ([0] * 4, [])
    assert read([1, 2, 3, 4], label="id") == ([0, 1, 2, 3], ["0", "1", "2", "3"])
    for labels, names, options, line in (
        ([0.5, 1.0, 1.0, 0.5], None, {}, "classes in label are of the type double, and integers or texts are read"),
        ([0, 1, None, 1], None, {}, "a.parquet/2 has no label, and others of train have one"),
        ([0, 1, 5, 1], ("a", "b"), {}, "a.parquet/2 has the label 5, which is none of the 2 that the files name"),
        ([0, 1, -1, 1], ("a", "b"), {}, "a.parquet/2 has no label"),
        ([0, 1, 1, 0], None, {"label": "kind"}, "label=kind: .* has no such column; it has id"),
        ([0, 1, 1, 0], None, {"image": "kind"}, "image=kind: .* has no such column; it has id"),
        ([0, 1, 1, 0], None, {"image": "id"}, "the column id holds no pictures"),
    ):
        with pytest.raises(InputError, match=line) as error:
            read(labels, names, **options)
        assert "\n" not in str(error.value)


def test_a_split_whose_labels_are_not_published_is_left_out(photos: Path, tmp_path: Path) -> None:
    pytest.importorskip("pyarrow")
    files = files_of(photos)
    write_parquet(tmp_path / "hub" / "train-0.parquet", files[:40], [0, 1] * 20, CLASSES)
    write_parquet(tmp_path / "hub" / "test-0.parquet", files[40:], [-1] * 20, CLASSES)
    source = ParquetImages(str(tmp_path / "hub"), SHAPE)
    assert source.load().keys() == {"train"}
    assert "left out: test, which has no labels 1" in source.found
    without = ParquetImages(str(tmp_path / "hub"), SHAPE, label=None)
    assert {split: len(examples) for split, examples in without.load().items()} == {"train": 40, "test": 20}
    write_parquet(tmp_path / "hub" / "test-0.parquet", files[40:], [0] * 20, ("cat", "mouse"))
    with pytest.raises(InputError, match="name unlike classes"):
        ParquetImages(str(tmp_path / "hub"), SHAPE).load()


def test_parquet_files_that_cannot_be_read(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    path = tmp_path / "a.parquet"
    pictures = [file.read_bytes() for file in files_of(photos)[:3]]

    def line(columns: dict[str, Any] | None = None, **options: Any) -> str:
        if columns is not None:
            parquet.write_table(pyarrow.table(columns), path)
        with pytest.raises(InputError) as error:
            ParquetImages(str(path), SHAPE, **options).load()
        assert "\n" not in str(error.value)
        assert str(path) in str(error.value)
        return str(error.value)

    assert "no column holds pictures" in (found := line({"x": [1.0], "text": ["a"]}))
    assert "it has x (double), text (string); a table of numbers is read by dataset=table" in found
    assert "has the pictures a, b: choose one by dataset.source.image=a" in line({"a": pictures, "b": pictures})
    assert len(ParquetImages(str(path), SHAPE, image="b").load()["train"]) == 3
    assert "row 1 has no picture" in line({"a": [pictures[0], None, pictures[1]]})
    assert "a.parquet/1 cannot be read as an image" in line({"a": [pictures[0], b"none", pictures[1]]})
    assert "has no pictures" in line({"a": pyarrow.array([], type=pyarrow.binary())})
    parquet.write_table(pyarrow.table({"a": pictures}), path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "cannot be read as Parquet" in line()
    path.write_bytes(b"")
    assert "cannot be read as Parquet" in line()
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    assert "pip install 'genlab[parquet]'" in line()


def test_a_block_of_many_pictures_does_not_have_to_fit_in_memory(tmp_path: Path) -> None:
    pyarrow = pytest.importorskip("pyarrow")
    rng = np.random.default_rng(0)
    files = []
    for i in range(40):
        files.append(tmp_path / f"{i}.png")
        Image.fromarray(rng.integers(0, 256, (36, 36, 3), dtype=np.uint8)).save(files[-1])  # 4 kB of noise
    path = tmp_path / "a.parquet"
    write_parquet(path, files * 200)  # a block of eight pages, as pyarrow writes 1,024 rows to a page at most
    pool = pyarrow.default_memory_pool()
    before = pool.bytes_allocated()
    source = ParquetImages(str(path), SHAPE)
    most = 0

    def opened(read: Any) -> Any:
        def reading(*place: Any) -> bytes:
            nonlocal most
            content = read(*place)
            most = max(most, pool.bytes_allocated() - before)
            return content

        return reading

    read = source.opened()
    source.opened = lambda: opened(read)  # type: ignore[method-assign]
    assert len(source.load()["train"]) == 8000
    assert 0 < most < path.stat().st_size / 2


@KINDS
def test_a_run_learns_from_them(pack: Pack, photos: Path, tmp_path: Path, genlab: Genlab) -> None:
    name = {"as_tars": "webdataset", "as_parquet": "parquet"}[pack.__name__]
    source = pack(photos, tmp_path / "packed")
    given = [f"dataset={name}", f"dataset.source.path={source.path}", "dataset.shape=[1,8,8]", "dataset.batch_size=8"]
    given += ["model=vae/vae", "model.num_classes=${dataset.num_classes}", "trainer.max_epochs=1", "callbacks=minimal"]
    result = genlab("train", *given, "metrics.num_samples=20", "logger=csv")
    assert result.code == 0, result.err
    assert "train 60 images of 3 files (cat 30, dog 30)" in result.err
    summary = json.loads((result.run / "summary.json").read_text())
    protocols = [figure["protocol"] for figure in summary["metrics"].values() if "protocol" in figure]
    assert protocols
    assert all(protocol["pictures"].startswith("upright as EXIF says") for protocol in protocols)
