"""A run is not continued, measured or ranked on other data than its own without a word."""

import csv
import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from genlab.data.image_folder import ImageFolder
from genlab.data.images import ImageDataModule
from genlab.data.module import SPLITS, DataModule
from genlab.errors import InputError
from genlab.runs.checkpoints import read_checkpoint, write_checkpoint
from genlab.runs.latent_codes import CodesDataModule
from genlab.runs.loading import load
from support.command import FAST, Genlab, Trained
from support.image_folders import write_images

SMALL = (
    "model=autoregressive/made",
    "model.hidden=[8]",
    "trainer.max_epochs=1",
    "metrics/features=pixels",
    "metrics.num_samples=10",
    "logger=csv",
    "callbacks=minimal",
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """40 images of 8x8."""
    write_images(tmp_path / "photos", 40, (8, 8))
    return tmp_path / "photos"


def of(folder: Path) -> tuple[str, ...]:
    return ("dataset=image_folder", f"dataset.source.path={folder}", "dataset.shape=[1,8,8]", "dataset.batch_size=8")


def train(genlab: Genlab, *arguments: str) -> Path:
    result = genlab("train", *SMALL, *arguments)
    assert result.code == 0, result.err
    return max(result.outputs.rglob("config.yaml"), key=lambda path: path.stat().st_mtime_ns).parent


def content(run: Path) -> dict[str, bytes]:
    return {str(p.relative_to(run)): p.read_bytes() for p in run.rglob("*") if p.is_file()}


def names(data: DataModule) -> dict[str, set[str]]:
    return {split: set(data.splits[split].names or ()) for split in SPLITS}


def test_a_file_more_is_said_and_no_image_that_was_trained_on_is_tested(genlab: Genlab, photos: Path) -> None:
    run = train(genlab, *of(photos))
    before = load(run)
    own = names(before.data)
    assert before.other_data is None
    for file in (run / "checkpoints").glob("*.ckpt"):
        assert read_checkpoint(file)["data"] == before.data.identity
    results = json.loads((run / "summary.json").read_text())["metrics"]
    for result in results.values():
        assert result["protocol"]["test_sha256"] == before.data.sha256("test")
    assert results["test/fid"]["protocol"]["reference_sha256"] == before.data.sha256("train")

    for i in range(20):
        shutil.copy(photos / f"{i:04d}.png", photos / f"more{i}.png")
    result = genlab("evaluate", run, "metrics.num_samples=10")
    assert result.code == 0, result.err
    (line,) = (line for line in result.err.splitlines() if "was trained on other data than this" in line)
    assert "had 40 and has" not in line
    assert "test data now may have been trained on" in line
    for measured in json.loads((run / "evaluation.json").read_text())["metrics"].values():
        assert "on other data than it was trained on: " in measured["warning"]
        assert measured["protocol"]["test_sha256"] != before.data.sha256("test")
    after = load(run)
    now = names(after.data)
    assert after.other_data
    assert now["test"] & own["train"] == now["val"] & own["train"] == set()
    assert own["test"] <= now["test"]

    stored = content(run)
    result = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert result.code == 2
    (line,) = (line for line in result.err.splitlines() if line.startswith("genlab: error: "))
    assert "the run was trained on other data than dataset=image_folder is now" in line
    assert content(run) == stored

    for path in photos.glob("more*"):
        path.unlink()
    shutil.move(photos, photos.with_name("moved"))
    moved = (*of(photos.with_name("moved"))[:2], "trainer.max_epochs=2")
    result = genlab("train", f"resume={run}", *moved)
    assert result.code == 0, result.err
    assert "other data" not in result.err
    assert genlab("evaluate", run, "metrics.num_samples=10", "metrics.num_test=1").code == 0


def test_a_replaced_image_is_refused_after_a_kill(genlab: Genlab, photos: Path) -> None:
    run = train(genlab, *of(photos), "+dataset.source.memory_limit_gb=0.0", "+dataset.num_workers=0")
    own = names(load(run).data)
    (run / "summary.json").unlink()
    status = json.loads((run / "status.json").read_text()) | {"status": "interrupted", "trained": False}
    (run / "status.json").write_text(json.dumps(status))
    write_images(photos / "more", 1, (8, 8), seed=5)
    (photos / "more" / "0000.png").replace(photos / min(own["test"]))
    result = genlab("train", f"resume={run}")
    assert result.code == 2
    assert f"test has {len(own['test'])} examples as before, but others" in result.err
    assert json.loads((run / "status.json").read_text()) == status


def test_runs_on_unlike_folders_are_ranked_apart(genlab: Genlab, photos: Path, tmp_path: Path) -> None:
    write_images(tmp_path / "others", 40, (8, 8), seed=9)
    shutil.copytree(photos, tmp_path / "copy")
    runs = [train(genlab, *of(folder)) for folder in (photos, tmp_path / "others", tmp_path / "copy")]
    result = genlab("compare", *runs, "figures=[all]", "--format", "csv", f"output={tmp_path / 'runs.png'}")
    assert result.code == 0, result.err
    rows = {Path(row["dataset.source.path"]).name: row for row in csv.DictReader(io.StringIO(result.out))}
    apart = {column for row in rows.values() for column in row if "[1]" in column}
    assert {column.partition("[")[0].strip() for column in apart} >= {"test/bits_per_dim", "test/fid", "test/precision"}
    for column in apart:
        assert {name for name, row in rows.items() if row[column]} == {"photos", "copy"}
        assert {name for name, row in rows.items() if row[column.replace("[1]", "[2]")]} == {"others"}


def strip(run: Path) -> None:
    """Make the checkpoints of a run those of an earlier version, which did not say what data they were trained on."""
    for file in (run / "checkpoints").glob("*.ckpt"):
        checkpoint = read_checkpoint(file)
        checkpoint.pop("data", None)
        write_checkpoint(checkpoint, file)


def test_a_run_of_before_keeps_its_split(genlab: Genlab, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as before:
        before.setattr("genlab.data.image_folder._Reader.names", None)
        run = train(genlab, *of(photos))
    strip(run)

    as_before = ImageDataModule(ImageFolder(str(photos), (1, 8, 8)), "image_folder", (1, 8, 8), batch_size=8)
    as_before.hold_out_as({})
    as_before.setup()
    opened = load(run)
    assert names(opened.data) == names(as_before)
    assert opened.other_data is None

    result = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert result.code == 0, result.err
    assert names(load(run).data) == names(as_before)
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["data"] == as_before.identity

    strip(run)
    shutil.copy(photos / "0000.png", photos / "zzz.png")
    opened = load(run)
    assert opened.data.splits
    assert opened.other_data == "train had 32 and has 33 examples"  # by the sizes that its results state


def test_codes_of_a_run_that_was_trained_again_are_other_data(trained: Trained) -> None:
    options = ("model.channels=8", "model.code_dim=4", "model.num_codes=7", "model.num_blocks=1")
    first = trained("model=vae/vq_vae", *options, "name=first", *FAST)

    def codes() -> CodesDataModule:
        facts = json.loads((first / "summary.json").read_text())["codes"]
        data = CodesDataModule(str(first), tuple(facts["shape"]), facts["levels"], batch_size=8)
        data.setup()
        return data

    before = codes()
    identity = before.identity
    assert codes().difference(identity) is None
    assert before.protocol["test_sha256"] == identity["sha256"]["test"]
    for file in (first / "checkpoints").glob("*.ckpt"):
        checkpoint = read_checkpoint(file)
        for value in checkpoint["state_dict"].values():
            if value.is_floating_point():
                value.add_(1e-4)
        write_checkpoint(checkpoint, file)
    assert "train has 256 examples as before, but others" in str(codes().difference(identity))
    assert codes().protocol["test_sha256"] != identity["sha256"]["test"]
    with pytest.raises(InputError, match="levels=5 is stated, train has the code 6"):
        CodesDataModule(str(first), before.shape, 5, batch_size=8).setup()  # type: ignore[arg-type]


def test_a_record_that_is_none_is_as_if_there_were_none(genlab: Genlab, photos: Path) -> None:
    run = train(genlab, *of(photos))
    for record in ({"sizes": 3, "held_out": "name"}, ["x"], {"sha256": {"test": torch.zeros(1)}}, {"held_out": 7}):
        for file in (run / "checkpoints").glob("*.ckpt"):
            content: dict[str, Any] = read_checkpoint(file)
            content["data"] = record
            write_checkpoint(content, file)
        assert load(run).data.splits


@pytest.mark.slow
def test_a_palette_over_a_folder_goes_on_with_the_same_images_alone(genlab: Genlab, photos: Path) -> None:
    small = ("model=transformer/image_gpt", "model.width=16", "model.num_layers=1", "dataset.num_colours=4")
    sizes = ("dataset.of.shape=[3,8,8]", "dataset.of.batch_size=8", "dataset.batch_size=8")

    def over(folder: Path) -> tuple[str, ...]:
        return ("dataset=palette", "dataset@dataset.of=image_folder", f"dataset.of.source.path={folder}")

    result = genlab("train", *over(photos), *small, *sizes, *SMALL[2:])
    assert result.code == 0, result.err
    (run,) = (path.parent for path in result.outputs.rglob("config.yaml"))
    results = json.loads((run / "summary.json").read_text())["metrics"]
    assert results["test/bits_per_dim"]["protocol"]["test_sha256"] == load(run).data.sha256("test")
    moved = photos.rename(photos.with_name("moved"))
    result = genlab("train", f"resume={run}", *over(moved), "trainer.max_epochs=2")
    assert result.code == 0, result.err
    write_images(moved.with_name("other"), 1, (8, 8), seed=3)
    shutil.copy(next(moved.with_name("other").glob("*.png")), moved / "zzz.png")
    result = genlab("train", f"resume={run}", *over(moved), "trainer.max_epochs=3")
    assert result.code == 2
    assert "the run was trained on other data than dataset=palette is now" in result.err
