"""The worked examples of docs/adding.md, followed: files in a folder of one's own, and no file of genlab touched."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from support.command import Genlab
from support.paths import ROOT

QUICK = ("trainer.max_epochs=2", "metrics.num_samples=60", "metrics.num_test=20", "logger=csv")


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The files of ``my_project`` that the page has, in a folder that Python imports from."""
    page = (ROOT / "docs" / "adding.md").read_text()
    found = re.findall(r"`my_project/([\w./]+)`:\n\n```(?:python|yaml)\n(.*?)```", page, re.DOTALL)
    assert {Path(name).name for name, _ in found} >= {"stripes.py", "stripes.yaml", "sounds.py", "tones.yaml"}
    for name, content in found:
        path = tmp_path / "my_project" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    monkeypatch.syspath_prepend(str(tmp_path / "my_project"))
    return tmp_path / "my_project"


def test_a_dataset_is_a_source_and_a_yaml(project: Path, genlab: Genlab) -> None:
    conf = ("--config-dir", str(project / "conf"))
    small = ("model=vae/vae", "model.networks.hidden=[16]", "model.num_classes=2", "callbacks=minimal", *QUICK)
    trained = genlab("train", *conf, *small, "dataset=stripes")
    assert trained.code == 0, trained.err
    protocol = json.loads((trained.run / "summary.json").read_text())["metrics"]["test/fid"]["protocol"]
    assert protocol["dataset"] == "stripes"
    refused = genlab("train", *conf, *small, "dataset=stripes", "dataset.shape=[1,8,9]")
    assert refused.code == 2
    assert "set dataset.shape to that" in refused.err


def test_a_kind_of_data_trains_samples_is_measured_and_shown(project: Path, genlab: Genlab) -> None:
    options = ("--config-dir", str(project / "conf"), "model=gaussian_sound", "dataset=tones", *QUICK)
    trained = genlab("train", *options)
    assert trained.code == 0, trained.err
    run = trained.run
    summary = json.loads((run / "summary.json").read_text())
    assert {"test/nll", "test/fid", "test/precision"} <= summary["metrics"].keys()
    assert "test/bits_per_dim" not in summary["metrics"]  # the density of real numbers has none
    assert summary["metrics"]["test/fid"]["protocol"]["features"] == "sounds.Spectrum"
    assert np.load(run / "samples" / "final.npy").shape == (64, 1, 64)
    assert np.load(run / "samples" / "final.npy").dtype == np.float32
    assert Image.open(run / "samples" / "final.png").size == (600, 400)
    assert sum(path.stem.isdigit() for path in (run / "samples").glob("*.png")) == 2  # after each epoch

    sampled = genlab("sample", f"run={run}", "n=5")
    assert sampled.code == 0, sampled.err
    assert np.load(run / "samples" / "seed0-n5.npy").shape == (5, 1, 64)
    assert "draws sounds: mode=grid" in genlab("sample", f"run={run}", "mode=nearest").err
    evaluated = genlab("evaluate", run, "metrics.num_samples=50", "metrics.memorization=false")
    assert evaluated.code == 0, evaluated.err
    compared = genlab("compare", run, "--format", "csv")
    assert compared.code == 0, compared.err
    assert "gaussian_sound" in compared.out


def test_a_kind_of_data_and_a_model_that_do_not_go_together_are_refused(project: Path, genlab: Genlab) -> None:
    conf = ("--config-dir", str(project / "conf"))
    assert "models sound data" in genlab("train", *conf, "model=gaussian_sound", "dataset=digits").err
    assert "is sound" in genlab("train", *conf, "model=vae/vae", "dataset=tones").err
