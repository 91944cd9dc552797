"""Averages of the weights whose width is chosen when a run is opened."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from genlab.errors import InputError
from genlab.runs.checkpoints import read_checkpoint
from genlab.runs.loading import load
from support.command import Genlab, Trained

SMALL = (
    "model=vae/vae", "model.networks.hidden=[8]", "dataset.train_size=256", "dataset.batch_size=16", "logger=csv",
    "metrics.num_samples=20", "metrics.num_test=20", "callbacks/averages=power", "callbacks.averages.every_images=256",
    "callbacks.best=null",
)  # fmt: skip


@pytest.fixture
def run(trained: Trained) -> Path:
    return trained(*SMALL, "trainer.max_epochs=4")


def test_averages_are_kept_and_their_width_is_chosen_later(genlab: Genlab, run: Path) -> None:
    snapshots = sorted((run / "checkpoints/averages").glob("*.ckpt"))
    assert [path.stem for path in snapshots] == [f"{steps:09d}" for steps in (16, 32, 48, 64)]
    kept = read_checkpoint(snapshots[-1])["state_dict"]
    exact = load(run, weights=0.1).model.state_dict()
    for name, value in exact.items():
        torch.testing.assert_close(value, kept[f"1.{name}"], rtol=1e-3, atol=1e-5)
    between, raw = load(run, weights=0.07).model.state_dict(), load(run, weights="raw").model.state_dict()
    some = next(name for name in between if name.endswith("weight"))
    for other in (exact, raw):
        assert not torch.allclose(between[some], other[some])
    assert (between[some] - exact[some]).norm() < (between[some] - raw[some]).norm()
    result = genlab("evaluate", run, "weights=[0.07,0.1]", "metrics.num_samples=20", "metrics.num_test=20")
    assert result.code == 0, result.err
    content = json.dumps(json.loads((run / "evaluation.json").read_text()))
    assert "average of width 0.07" in content
    assert "average of width 0.1" in content


def test_a_resumed_run_has_the_averages_of_one_that_was_not_interrupted(
    genlab: Genlab, run: Path, trained: Trained
) -> None:
    first = trained(*SMALL, "trainer.max_epochs=2")
    result = genlab("train", f"resume={first}", "trainer.max_epochs=4")
    assert result.code == 0, result.err
    ours, theirs = (read_checkpoint(r / "checkpoints/averages/000000064.ckpt") for r in (first, run))
    assert ours["steps"] == theirs["steps"]
    assert all(torch.equal(ours["state_dict"][name], value) for name, value in theirs["state_dict"].items())


def test_what_is_missing_or_out_of_range_is_said(genlab: Genlab, run: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no average has the width"):
        _ = load(run, weights=0.5).model
    without = Path(shutil.copytree(run, tmp_path / "without"))
    shutil.rmtree(without / "checkpoints/averages")
    refused = genlab("evaluate", without, "weights=0.1")
    assert refused.code == 2
    assert "no snapshots of averages" in refused.err
    refused = genlab("train", *SMALL, "callbacks.averages.widths=[0.4]")
    assert refused.code == 2
    assert "callbacks.averages.widths" in refused.err
