"""Ranks count in the processes that torchrun started for this run; others are in the environment by chance."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from pytorch_lightning.utilities.rank_zero import rank_zero_only

import genlab
from genlab.machine.process import OF_RUN, RANKS, alone, place_in
from support.command import Genlab
from support.small_runs import only_run

TINY = (
    "model=vae/vae", "model.networks.hidden=[8]", "dataset.train_size=64", "trainer.max_epochs=1", "logger=csv",
    "metrics.num_samples=8", "metrics.num_test=8", "metrics.num_shown=2", "metrics.memorization=false",
    "callbacks=minimal",
)  # fmt: skip
STRAY = {
    "SageMaker": {"RANK": "1", "LOCAL_RANK": "1"},
    "Kubeflow": {"RANK": "1", "WORLD_SIZE": "4", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1", "PET_NNODES": "4"},
    "srun": {
        "SLURM_PROCID": "3", "SLURM_LOCALID": "3", "SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_NODEID": "0",
        "SLURM_JOB_NAME": "train", "SLURM_STEP_NUM_TASKS": "4",
    },
    "torchrun": {"RANK": "1", "LOCAL_RANK": "1", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "x", "GROUP_RANK": "0"},
    "nothing": {"RANK": "", "LOCAL_RANK": ""},
    "of another run": {"RANK": "1", "WORLD_SIZE": "2", OF_RUN: "/another/run"},
}  # fmt: skip


def assert_whole(run: Path) -> None:
    assert json.loads((run / "status.json").read_text())["status"] == "done"
    summary = json.loads((run / "summary.json").read_text())
    assert summary["environment"]["devices"] == 1
    assert "test/nll" in summary["metrics"]
    assert "train/loss" in (run / "metrics.csv").read_text()
    assert (run / "checkpoints" / "last.ckpt").is_file()


@pytest.mark.parametrize("stray", STRAY)
def test_a_run_with_stray_ranks_keeps_its_results(stray: str, genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in STRAY[stray].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)  # as Lightning sets it when it is imported
    result = genlab("train", *TINY)
    assert result.code == 0, result.err
    assert_whole(result.run)
    assert ("it is a run of its own" in result.err) == (stray == "torchrun")


@pytest.mark.parametrize("stray", ["Kubeflow", "srun"])
def test_from_python_the_environment_stays_as_it_was(
    stray: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name, value in STRAY[stray].items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(rank_zero_only, "rank", 1)
    before = dict(os.environ)
    genlab.launch(*TINY)
    assert_whole(only_run(Path(os.environ["GENLAB_OUTPUTS"])))
    assert {name: os.environ.get(name) for name in RANKS} == {name: before.get(name) for name in RANKS}
    assert rank_zero_only.rank == 1


def test_the_place_of_a_process_in_its_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"RANK": "1", "WORLD_SIZE": "2", OF_RUN: str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    assert place_in(tmp_path) == (1, 2)
    assert place_in(tmp_path / "another") == (0, 1)
    with alone():
        assert "RANK" not in os.environ
    assert os.environ["RANK"] == "1"


@pytest.mark.slow
@pytest.mark.e2e
def test_a_process_with_a_rank_from_its_start(tmp_path: Path) -> None:
    """Lightning takes ranks from the environment when it is imported."""
    environment = {**os.environ, **STRAY["Kubeflow"], **STRAY["srun"], "GENLAB_OUTPUTS": str(tmp_path)}
    result = subprocess.run(
        [sys.executable, "-m", "genlab", "train", *TINY], env=environment, capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr
    assert_whole(only_run(tmp_path))
