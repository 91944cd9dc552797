"""Runs made before the folders of the package were rearranged: they open, sample, evaluate, resume and compare.

``tests/golden/make_fixtures.py`` says how the run folders were made.
"""

import csv
import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genlab import load
from genlab.training.parts import assemble
from support.command import Genlab

FIXTURES = Path(__file__).parents[1] / "fixtures" / "runs_before_the_move"
RUNS = sorted(path.parent.name for path in FIXTURES.glob("*/config.yaml"))
BENCHMARKS = Path(__file__).parents[2] / "benchmarks/points"
CONFIGS = sorted(BENCHMARKS.rglob("config.yaml"))

# Other than the config file of the model states today: these runs were made while the training group overrode it.
AS_BEGUN = {
    "flow-glow": ("training.optimizer.lr=1e-3", "training.gradient_clip=null"),
    "vae-hierarchical_vae": ("training.gradient_clip=null", "training.channels_last=false"),
}
LIKELIHOODS = {"test/nll", "test/bits_per_dim", "test/nats_per_token"}


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """A copy of all run folders, whose configs say where it lies."""
    folder = tmp_path / FIXTURES.name
    shutil.copytree(FIXTURES, folder)
    for config in folder.glob("*/config.yaml"):
        text = config.read_text().replace(f"{FIXTURES.name}/", f"{folder}/")
        config.write_text(text.replace("~/.cache/genlab", os.environ["GENLAB_CACHE"]))
    return folder


def read(path: Path) -> dict[str, Any]:
    content = json.loads(path.read_text())
    assert isinstance(content, dict)
    return content


def test_the_runs_are_of_all_families_and_small() -> None:
    assert {name.partition("-")[0] for name in RUNS} == {"autoregressive", "flow", "gan", "transformer", "vae"}
    assert len(RUNS) >= 10
    assert sum(path.stat().st_size for path in FIXTURES.rglob("*") if path.is_file()) < 1_000_000
    for path in (p for p in FIXTURES.rglob("*") if p.suffix in (".yaml", ".json")):
        assert "/home/" not in path.read_text()
        assert "/tmp/" not in path.read_text()
    # What later versions no longer save: the average of a discriminator.
    weights = torch.load(FIXTURES / "gan-dcgan" / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    assert any(name.startswith("ema.model.discriminator.") for name in weights)


@pytest.mark.parametrize("name", RUNS)
def test_a_run_opens_samples_evaluates_and_resumes(name: str, runs: Path, genlab: Genlab) -> None:
    folder = runs / name
    run = load(folder, device="cpu")
    assert run.model.sample(2).shape == (2, *run.model.shape)

    (reference,) = (folder / "samples").glob("expected.*")
    is_text = reference.suffix == ".txt"
    written = folder / ("samples.txt" if is_text else "samples.png")
    result = genlab("sample", f"run={folder}", "n=4", "seed=3", f"output={written}")
    assert result.code == 0, result.err
    if is_text:
        samples, expected = (np.array(list(path.read_text())) for path in (written, reference))
        close = samples == expected
    else:
        samples, expected = (np.load(path) for path in (written.with_suffix(".npy"), reference))
        assert samples.dtype == expected.dtype
        # Another processor may round a grey level the other way.
        close = np.abs(samples.astype(np.float64) - expected) <= (1 if expected.dtype == np.uint8 else 1e-3)
    assert samples.shape == expected.shape
    assert close.mean() >= 0.98

    result = genlab(
        "evaluate", folder, "metrics.num_samples=32", "metrics.num_test=32", "metrics.importance_samples=null"
    )
    assert result.code == 0, result.err
    before, now = (read(folder / file)["metrics"] for file in ("summary.json", "evaluation.json"))
    assert now.keys() == before.keys()
    for figure in LIKELIHOODS & now.keys():
        assert now[figure]["value"] == pytest.approx(before[figure]["value"], rel=1e-3)

    seen = read(folder / "summary.json")["images_seen"]
    result = genlab("train", f"resume={folder}", "trainer.max_epochs=2", *AS_BEGUN.get(name, ()))
    assert result.code == 0, result.err
    assert read(folder / "status.json")["status"] == "done"
    assert read(folder / "summary.json")["images_seen"] == 2 * seen
    assert load(folder, device="cpu").model.sample(2).shape == (2, *run.model.shape)


def test_runs_stand_beside_each_other(runs: Path, genlab: Genlab, tmp_path: Path) -> None:
    result = genlab("compare", runs, "figures=[all]", "--format", "csv", f"output={tmp_path / 'runs.png'}")
    assert result.code == 0, result.err
    rows = list(csv.DictReader(io.StringIO(result.out)))
    assert len(rows) == len(RUNS)
    assert {f"{row['model']}" for row in rows} >= {"gan/dcgan", "vae/vae", "transformer/maskgit"}


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: "/".join(path.parts[-3:-1]))
def test_a_committed_config_builds(path: Path) -> None:
    config = load(path.parent, device="cpu").config
    parts = assemble(config)
    assert parts.training.model is parts.model
    assert parts.data.name == config["dataset"]["name"]
    assert parts.model.sample(3).shape == (3, *config["dataset"]["shape"])


def test_committed_runs_stand_beside_each_other(genlab: Genlab, tmp_path: Path) -> None:
    assert len(CONFIGS) == 50
    result = genlab("compare", BENCHMARKS, "--format", "csv", f"output={tmp_path / 'runs.png'}")
    assert result.code == 0, result.err
    rows = list(csv.DictReader(io.StringIO(result.out)))
    # Five seeds each: their configs say the same.
    assert [row["status"] for row in rows] == 10 * ["5 done"]
    assert {path for row in rows for path in row["folders"].split()} == {str(path.parent) for path in CONFIGS}


def test_a_run_of_before_is_another_seed_of_one_of_today(runs: Path, genlab: Genlab, tmp_path: Path) -> None:
    folder = runs / "gan-mlp"
    overrides = read(folder / "status.json")["overrides"]
    assert genlab("train", *overrides, "seed=1").code == 0
    (config,) = (tmp_path / "outputs").rglob("config.yaml")
    result = genlab("compare", folder, config.parent, "--format", "csv", f"output={tmp_path / 'runs.png'}")
    assert result.code == 0, result.err
    (row,) = csv.DictReader(io.StringIO(result.out))
    assert (row["seeds"], row["status"]) == ("0,1", "2 done")
    assert not [column for column in row if "[" in column]  # one protocol for both
