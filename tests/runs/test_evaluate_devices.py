"""Samples of an evaluation that several processes draw are those that one draws, and so are all figures."""

import json
from pathlib import Path

import pytest
import torch

from genlab.errors import InputError
from genlab.evaluating.spread import devices_of
from support.command import Genlab, Trained
from support.small_runs import COMMON, FAMILIES


@pytest.mark.slow
def test_two_processes_measure_what_one_does(genlab: Genlab, trained: Trained) -> None:
    run = trained("model=vae/vae", *COMMON, *FAMILIES["vae/vae"])
    # Three calls of the sampler, the last of them smaller, under each of two settings.
    likelihood = ("metrics.num_test=20", "metrics.importance_samples=null")
    arguments = ("sampling.temperature=0.7,1", "metrics.num_samples=520", *likelihood)
    found = []
    for devices in (1, 2):
        (run / "evaluation.json").unlink(missing_ok=True)
        result = genlab("evaluate", run, *arguments, f"devices={devices}", "device=cpu")
        assert result.code == 0, result.err
        found.append(json.loads((run / "evaluation.json").read_text()))
    assert found[0] == found[1]
    assert "test/fid" in found[0]["metrics"]


@pytest.mark.slow
def test_without_measures_of_samples_none_are_drawn(genlab: Genlab, trained: Trained) -> None:
    run = trained("model=vae/vae", *COMMON, *FAMILIES["vae/vae"])
    without = [f"~metrics.measures.{name}" for name in _measures_of_samples()]
    result = genlab(
        "evaluate", run, *without, "metrics.num_test=20", "metrics.importance_samples=null", "devices=2", "device=cpu"
    )
    assert result.code == 0, result.err
    assert json.loads((run / "evaluation.json").read_text())["metrics"].keys() >= {"test/nll"}


def _measures_of_samples() -> list[str]:
    from genlab.metrics.evaluation import first_measures

    return [name for name, one in first_measures().items() if one.needs & {"samples", "features"}]


def test_devices_of_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert devices_of(torch.device("cpu"), 3) == ["cpu"] * 3
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert devices_of(torch.device("cuda"), 2) == ["cuda:0", "cuda:1"]
    with pytest.raises(InputError, match="this machine has 2 GPUs"):
        devices_of(torch.device("cuda"), 3)
    with pytest.raises(InputError, match="cuda:1 is one device"):
        devices_of(torch.device("cuda:1"), 2)


def test_a_number_of_devices_that_is_none(genlab: Genlab, tmp_path: Path) -> None:
    result = genlab("evaluate", tmp_path, "devices=0")
    assert result.code == 2
    assert "devices" in result.err.splitlines()[-1]
