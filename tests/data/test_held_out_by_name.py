"""Files are held out by their names, so that a file more or less moves no other, and data is known by its hashes."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from genlab.data.digits import Digits
from genlab.data.examples import Examples, is_fixed
from genlab.data.holding_out import held_out
from genlab.data.image_folder import ImageFolder
from genlab.data.images import ImageDataModule
from genlab.data.module import SPLITS, DataModule
from genlab.data.palette import PaletteDataModule
from genlab.data.points import GaussianMixture, PointDataModule
from genlab.data.table import Table, TableDataModule
from genlab.data.text import TextDataModule
from genlab.data.text_sources import TextFiles
from genlab.data.tokenizers import Bytes
from genlab.errors import InputError
from support.image_folders import write_images

NAMES = st.sets(st.text("abcxyz/.ß\udc80", min_size=1, max_size=6), min_size=6, max_size=60)


def chosen(names: list[str], seed: int = 0, **sizes: float) -> dict[str, set[str]]:
    """The names in each split; val and test hold out a fifth unless told otherwise."""
    examples = Examples(torch.zeros(len(names), 1), torch.zeros(len(names), dtype=torch.long), names=names)
    found = held_out(examples, {"val": 0.2, "test": 0.2, **sizes}, seed, True, "mine")  # type: ignore[dict-item]
    assert sorted(torch.cat(list(found.values())).tolist()) == list(range(len(names)))
    return {split: {names[i] for i in index} for split, index in found.items()}


@given(names=NAMES, one=st.text("abc", min_size=7, max_size=9), seed=st.integers(0, 3))
def test_one_file_more_moves_no_other(names: set[str], one: str, seed: int) -> None:
    try:
        before, after = chosen(sorted(names), seed), chosen(sorted(names | {one}), seed)
    except InputError:  # of the fewest, none may be left to train on
        return
    for split in ("val", "test"):
        # The only member of a split may be the nearest to its bound in place of one below it.
        if len(before[split]) > 1:
            assert after[split] - {one} == before[split]


@given(names=NAMES, one=st.text("abc", min_size=7, max_size=9), val=st.integers(1, 2), test=st.integers(1, 2))
def test_of_a_number_one_file_more_trains_on_no_test_file_but_one(
    names: set[str], one: str, val: int, test: int
) -> None:
    before, after = (chosen(sorted(n), val=val, test=test) for n in (names, names | {one}))
    for split in ("val", "test"):
        assert len(after[split]) == len(before[split])
        assert after[split] <= before[split] | {one}  # nothing that was trained on is tested
    # The size of one split does not change the other.
    assert chosen(sorted(names), val=val, test=test)["test"] == chosen(sorted(names), val=3 - val, test=test)["test"]


def test_a_fraction_is_about_that_share_and_another_seed_another_choice() -> None:
    names = [f"{i:05d}.png" for i in range(4000)]
    first, second = chosen(names, 0, val=0.1, test=0.25), chosen(names, 1, val=0.1, test=0.25)
    assert abs(len(first["val"]) - 400) < 60
    assert abs(len(first["test"]) - 1000) < 90
    assert len(first["test"] & second["test"]) < 350
    backwards = chosen(names[::-1], 0, val=0.1, test=0.25)
    assert backwards == first
    with pytest.raises(InputError, match="leaves no data"):
        chosen(names[:10], val=5, test=5)


def folder(path: Path, memory: float = 4.0, **options: Any) -> ImageDataModule:
    source = ImageFolder(str(path), (3, 8, 8), memory)
    data = ImageDataModule(source, "folder", (3, 8, 8), batch_size=8, **options)
    data.setup()
    return data


@pytest.mark.parametrize("memory", [4.0, 0.0])
def test_a_folder_has_an_identity_wherever_it_lies(tmp_path: Path, memory: float) -> None:
    write_images(tmp_path / "a", 40, (8, 8))
    first = folder(tmp_path / "a", memory)
    assert (first.splits["test"].images is None) == (memory == 0)
    identity = first.identity
    assert identity["held_out"] == "name"
    assert identity["sizes"] == first.sizes == {split: len(first.splits[split]) for split in SPLITS}
    assert len(set(identity["sha256"].values())) == 3
    assert first.protocol["test_sha256"] == identity["sha256"]["test"]

    shutil.copytree(tmp_path / "a", tmp_path / "elsewhere" / "b")
    for path in (tmp_path / "elsewhere" / "b").iterdir():
        path.touch()
    moved = folder(tmp_path / "elsewhere" / "b", memory)
    assert moved.difference(identity) is None
    assert moved.identity == identity

    shutil.copy(tmp_path / "a" / "0000.png", tmp_path / "a" / "zzz.png")
    more = folder(tmp_path / "a", memory)
    assert "examples" in str(more.difference(identity))
    for split in ("val", "test"):
        names = set(first.splits[split].names or ())  # type: ignore[index]
        assert names
        assert set(more.splits[split].names or ()) - {"zzz.png"} == names  # type: ignore[index]
    (tmp_path / "a" / "zzz.png").unlink()

    some = next(iter(first.splits["train"].names or ()))
    (tmp_path / "a" / some).write_bytes((tmp_path / "a" / next(iter(first.splits["test"].names or ()))).read_bytes())
    replaced = folder(tmp_path / "a", memory)
    size = len(first.splits["train"])
    assert replaced.difference(identity) == f"train has {size} examples as before, but others"


def test_classes_and_splits_of_a_folder_count(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            write_images(tmp_path / split / name, 20, (8, 8), seed=len(split + name))
    before = folder(tmp_path).identity
    train = ImageFolder(str(tmp_path), (3, 8, 8)).load()["train"]
    assert (train.names or ())[0] == "cat/0000.png"
    (tmp_path / "test" / "cat" / "0003.png").rename(tmp_path / "test" / "dog" / "0003b.png")
    assert folder(tmp_path).difference(before) == "test has 40 examples as before, but others"


def test_runs_of_before_hold_out_by_position(tmp_path: Path) -> None:
    write_images(tmp_path, 40, (8, 8))
    source = ImageFolder(str(tmp_path), (3, 8, 8))
    by_position = ImageDataModule(source, "folder", (3, 8, 8), batch_size=8)
    by_position.hold_out_as({})
    by_position.setup()
    whole = source.load()["train"]
    without_names = Examples(whole.images, whole.labels)

    class Unnamed:
        def load(self) -> dict[str, Examples]:
            return {"train": without_names}

    as_ever = ImageDataModule(Unnamed(), "folder", (3, 8, 8), batch_size=8)  # type: ignore[arg-type]
    as_ever.setup()
    for split in SPLITS:
        assert torch.equal(as_ever.splits[split].images, by_position.splits[split].images)  # type: ignore[arg-type]
    assert by_position.identity["held_out"] == "order"
    assert by_position.difference(as_ever.identity) is None
    again = ImageDataModule(source, "folder", (3, 8, 8), batch_size=8)
    again.hold_out_as(by_position.identity)
    assert again.difference(by_position.identity) is None
    assert folder(tmp_path).difference(by_position.identity) is not None


def test_a_palette_over_a_folder_is_known_by_its_images(tmp_path: Path) -> None:
    write_images(tmp_path, 40, (8, 8))

    def palette(**identity: Any) -> PaletteDataModule:
        of = ImageDataModule(ImageFolder(str(tmp_path), (3, 8, 8)), "folder", (3, 8, 8), batch_size=8)
        data = PaletteDataModule(of, 4, (1, 8, 8), levels=4, batch_size=8)
        if identity:
            data.hold_out_as(identity)
        data.setup()
        return data

    first = palette()
    assert first.protocol["test_sha256"] == folder(tmp_path).identity["sha256"]["test"]
    assert palette().difference(first.identity) is None
    assert palette(held_out="order").identity["held_out"] == "order"
    assert palette(held_out="order").difference(first.identity) is not None
    write_images(tmp_path / "more", 3, (8, 8))
    assert palette().difference(first.identity) is not None


def text(path: Path) -> DataModule:
    return TextDataModule(TextFiles(str(path)), "text", (8,), Bytes(), batch_size=2)


def table(path: Path) -> DataModule:
    return TableDataModule(Table(str(path)), "table", (2,), batch_size=2)


@pytest.mark.parametrize("make", [text, table])
def test_texts_and_tables_have_an_identity_too(tmp_path: Path, make: Any) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 2)).round(3)
    lines = [f"{a},{b}" for a, b in rows]
    path, elsewhere = tmp_path / "data.txt", tmp_path / "elsewhere.txt"
    path.write_text("\n".join(lines))
    elsewhere.write_text("\n".join(lines))
    identity = make(path).identity
    assert make(elsewhere).difference(identity) is None
    path.write_text("\n".join(["7.125,7.125", *lines[1:]]))
    assert "but others" in str(make(path).difference(identity))


def test_data_that_its_config_decides_is_not_hashed() -> None:
    digits = ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17)
    ring = PointDataModule(GaussianMixture.ring(num_train=200, num_val=10, num_test=10), "ring", (2,))
    for data in (digits, ring):
        assert set(data.identity["sha256"].values()) == {None}
        assert "test_sha256" not in data.protocol
        assert "split_seed" not in data.protocol
    other = ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17, split_seed=3)
    other.setup()
    assert other.protocol["split_seed"] == 3


def test_a_subclass_that_loads_otherwise_is_hashed() -> None:
    class Fewer(Digits):
        def load(self) -> dict[Any, Examples]:
            return {split: examples.subset(torch.arange(300)) for split, examples in super().load().items()}

    class Renamed(Digits):
        pass

    class Said(Fewer):
        fixed = True

    for source, hashed in ((Fewer(), True), (Renamed(), False), (Said(), False), (GaussianMixture.ring(), False)):
        assert is_fixed(source) != hashed
    data = ImageDataModule(Fewer(), "digits", (1, 8, 8), levels=17)
    data.setup()
    assert "test_sha256" in data.protocol
