"""The cache of reference features: one entry per what it is made of, shared and never half-written."""

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from genlab.data.digits import Digits
from genlab.data.examples import Split
from genlab.data.image_sets import ArrayImages, FolderImages, ImageSet, SplitImages, open_pair
from genlab.data.images import ImageDataModule
from genlab.errors import InputError
from genlab.metrics.digit_classifier import DigitClassifier
from genlab.metrics.features import Pixels
from genlab.metrics.reference import Reference
from support.image_folders import write_images


def digits(**options: object) -> ImageDataModule:
    return ImageDataModule(Digits(), "digits", (1, 8, 8), levels=17, val_size=150, test_size=300, **options)  # type: ignore[arg-type]


class Counting(Pixels):
    """Counts the images that pass."""

    seen = 0

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, None]:
        Counting.seen += len(images)
        return super().forward(images)


def test_features_are_computed_once(tmp_path: Path) -> None:
    Counting.seen = 0
    first = Reference.of(SplitImages(digits(), "train"), Counting(), tmp_path)
    second = Reference.of(SplitImages(digits(), "train"), Counting(), tmp_path)
    assert Counting.seen == 1347
    assert torch.equal(first.features.features, second.features.features)
    assert first.protocol == second.protocol
    assert first.protocol["num_real"] == 1347
    assert [p.suffix for p in tmp_path.iterdir()] == [".safetensors"]


def test_another_split_data_or_extractor_is_another_entry(tmp_path: Path) -> None:
    Reference.of(SplitImages(digits(), "train"), Pixels(), tmp_path)
    for images, extractor in (
        (SplitImages(digits(), "test"), Pixels()),
        (SplitImages(digits(train_size=500), "train"), Pixels()),
        (SplitImages(digits(split_seed=1), "train"), Pixels()),
        (SplitImages(digits(), "train"), Pixels(max_features=16)),
        (SplitImages(digits(), "train"), DigitClassifier.pretrained("digits")),
        (SplitImages(digits(), "train"), DigitClassifier.pretrained("mnist")),
    ):
        before = len(list(tmp_path.iterdir()))
        Reference.of(images, extractor, tmp_path)
        assert len(list(tmp_path.iterdir())) == before + 1
    # What does not change the images does not.
    before = len(list(tmp_path.iterdir()))
    Reference.of(SplitImages(digits(batch_size=32, flip=True, seed=5), "train"), Pixels(), tmp_path)
    assert len(list(tmp_path.iterdir())) == before


def test_binarized_data_is_known_by_its_draw(tmp_path: Path) -> None:
    def binary(split: Split, **seeds: int) -> SplitImages:
        data = ImageDataModule(
            Digits(), "digits", (1, 8, 8), kind="binary", levels=2, source_levels=17, val_size=150, test_size=300,
            **seeds,  # type: ignore[arg-type]
        )  # fmt: skip
        return SplitImages(data, split)

    for split in ("train", "test"):
        # Training sees other draws; what samples are compared with is one, whatever the run's seed.
        assert binary(split).fingerprint == binary(split, seed=3).fingerprint
        assert torch.equal(all_of(binary(split)), all_of(binary(split, seed=3)))
        assert binary(split).fingerprint != binary(split, eval_seed=3).fingerprint
        assert not torch.equal(all_of(binary(split)), all_of(binary(split, eval_seed=3)))


def test_a_damaged_entry_is_made_anew(tmp_path: Path) -> None:
    images = SplitImages(digits(), "test")
    whole = Reference.of(images, Pixels(), tmp_path)
    (path,) = tmp_path.iterdir()
    for content in (b"", path.read_bytes()[:1000]):
        path.write_bytes(content)
        with pytest.warns(UserWarning, match="is damaged"):
            again = Reference.of(images, Pixels(), tmp_path)
        assert torch.equal(whole.features.features, again.features.features)
        assert path.stat().st_size > 1000


def test_a_cache_that_cannot_be_written_to_costs_no_result(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(UserWarning, match="could not be kept"):
        found = Reference.of(SplitImages(digits(), "test"), Pixels(), tmp_path / "file" / "cache")
    assert len(found) == 300


def _compute(cache: str, start: object, results: object) -> None:
    torch.set_num_threads(1)
    start.wait()  # type: ignore[attr-defined]
    for _ in range(5):
        for path in Path(cache).glob("*.safetensors"):
            path.unlink(missing_ok=True)
        found = Reference.of(SplitImages(digits(), "train"), Pixels(), cache)
        results.put(float(found.features.features.sum()))  # type: ignore[attr-defined]


def test_processes_that_want_it_at_once_do_not_corrupt_it(tmp_path: Path) -> None:
    """Each takes the entry away again and again while the others read and write it."""
    context = multiprocessing.get_context("fork")
    start, results = context.Event(), context.Queue()
    processes = [context.Process(target=_compute, args=(str(tmp_path), start, results)) for _ in range(3)]
    for process in processes:
        process.start()
    start.set()
    sums = {results.get(timeout=120) for _ in range(15)}
    for process in processes:
        process.join()
        assert process.exitcode == 0
    assert len(sums) == 1
    assert not [p for p in tmp_path.iterdir() if p.suffix != ".safetensors"]


# -- folders and arrays ------------------------------------------------------------------------------------------------


def all_of(images: ImageSet) -> torch.Tensor:
    return torch.cat(list(images))


def test_a_folder_gives_its_pixels_in_the_order_of_names(tmp_path: Path) -> None:
    write_images(tmp_path / "a", 7, (12, 10), "L")
    real, fake = open_pair(str(tmp_path / "a"), str(tmp_path / "a"))
    assert real.shape == (1, 10, 12)
    expected = np.stack([np.array(Image.open(tmp_path / "a" / f"{i:04d}.png")) for i in range(7)])
    assert np.array_equal(all_of(fake)[:, 0].numpy(), expected)
    (tmp_path / "a" / "notes.txt").write_text("not an image")
    assert len(open_pair(str(tmp_path / "a"), str(tmp_path / "a"))[0]) == 7


def test_grey_beside_colour_becomes_colour(tmp_path: Path) -> None:
    write_images(tmp_path / "grey", 3, mode="L")
    write_images(tmp_path / "colour", 3)
    real, fake = open_pair(str(tmp_path / "grey"), str(tmp_path / "colour"))
    assert real.shape == fake.shape == (3, 32, 32)
    grey = all_of(real)
    assert torch.equal(grey[:, 0], grey[:, 2])


def test_what_sampling_writes_can_be_measured(tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(0, 256, (5, 1, 8, 8), dtype=np.uint8)
    np.save(tmp_path / "x.npy", array)
    assert np.array_equal(all_of(ArrayImages(str(tmp_path / "x.npy"))).numpy(), array)
    np.save(tmp_path / "y.npy", array.astype(np.float32))
    with pytest.raises(InputError, match="expected images as uint8"):
        ArrayImages(str(tmp_path / "y.npy"))


def test_folders_that_cannot_be_read_are_one_line(tmp_path: Path) -> None:
    write_images(tmp_path / "mixed", 2)
    write_images(tmp_path / "mixed" / "more", 1, (16, 16))
    with pytest.raises(InputError, match="must be of one size"):
        all_of(FolderImages(str(tmp_path / "mixed"), grey=False))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are no images in"):
        FolderImages(str(tmp_path / "empty"), grey=True)
    with pytest.raises(InputError, match="there is no folder"):
        open_pair(str(tmp_path / "none"), str(tmp_path / "mixed"))


def test_a_changed_file_is_another_fingerprint(tmp_path: Path) -> None:
    write_images(tmp_path, 3)
    before = FolderImages(str(tmp_path), grey=False).fingerprint
    assert before == FolderImages(str(tmp_path), grey=False).fingerprint
    write_images(tmp_path, 1, seed=1)
    assert before != FolderImages(str(tmp_path), grey=False).fingerprint
