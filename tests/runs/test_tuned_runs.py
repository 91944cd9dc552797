"""A tuned run is, to the bit, the run that was given the choice by hand, and stays so when it is resumed."""

import csv
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml

from genlab.comparison.runs import differing, read_run
from genlab.launching import resume
from genlab.runs.checkpoints import read_checkpoint
from genlab.runs.folder import RunFolder
from genlab.tuning import tune
from genlab.tuning.candidates import Candidate
from support.command import Genlab
from support.small_runs import assert_identical

SMALL = (
    "dataset.train_size=256", "dataset.batch_size=32", "trainer.max_epochs=2", "trainer.log_every_n_steps=2",
    "metrics.num_samples=16", "metrics.num_test=20", "metrics.num_shown=4", "callbacks=minimal", "logger=csv",
    "callbacks.sample_metrics.num_samples=20", "trainer=cpu",
)  # fmt: skip
VAE = ("model=vae/vae", "model.networks.hidden=[8]", *SMALL)
GAN = ("model=gan/dcgan", "model.channels=4", *SMALL)
AUTO = ("trainer.tune=auto", "trainer.tune_precision=true")


class Timed:
    """A candidate whose steps take as long as a table says."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def first_steps(self, within: float) -> tuple[float, int, float]:
        return 4 * self.seconds, 4, self.seconds

    def seconds_per_step(self, steps: int, within: float) -> float:
        return self.seconds

    def close(self) -> None:
        pass


@pytest.fixture
def times(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Candidate]]:
    """``times(precision=..., ...)``: the milliseconds of a step; the list gets each candidate that is started."""

    def timed(**milliseconds: float) -> list[Candidate]:
        candidates: list[Candidate] = []

        def start(candidate: Candidate) -> Timed:
            candidates.append(candidate)
            of = milliseconds[
                "compiled" if candidate.compile else candidate.precision.replace("-", "_").lstrip("0123456789_")
            ]
            return Timed(of / 1000)

        @contextmanager
        def started(config: Mapping[str, Any]) -> Iterator[Any]:
            yield start

        monkeypatch.setattr(tune, "started", started)
        monkeypatch.setattr(tune, "LEAST", 0.0)
        return candidates

    return timed


def trainer(run: Path) -> dict[str, Any]:
    return yaml.safe_load((run / "config.yaml").read_text())["trainer"]


@pytest.mark.parametrize("model", [VAE, GAN])
def test_a_tuned_run_is_the_run_that_was_given_the_choice(
    model: tuple[str, ...], genlab: Genlab, times: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The precision that is not this device's own is chosen."""
    monkeypatch.setattr("genlab.machine.devices.computes_in_bfloat16", lambda _: True)
    started = times(bf16_mixed=5.0, true=2.0, compiled=9.0)
    tuned = genlab("train", *model, *AUTO)
    assert tuned.code == 0, tuned.err
    assert started[0] == Candidate("bf16-mixed", False, False)
    assert "chosen: saves" in tuned.err
    run = tuned.run
    assert {key: trainer(run)[key] for key in ("precision", "compile", "tune")} == {
        "precision": "32-true", "compile": False, "tune": "auto",
    }  # fmt: skip
    content = json.loads((run / "tune.json").read_text())
    assert content["chosen"] == {"precision": "32-true", "tf32": False, "compile": False}
    (row,) = (row for row in content["candidates"] if row["chosen"])
    assert (row["ms_per_step"], row["images_per_second"], row["own"]) == (2.0, 16000.0, False)
    environment = json.loads((run / "summary.json").read_text())["environment"]
    assert (environment["precision"], environment["compile"], environment["tf32"]) == ("32-true", False, False)
    monkeypatch.setenv("GENLAB_OUTPUTS", str(tmp_path / "by hand"))
    given = genlab("train", *model, "trainer.precision=32-true")
    assert given.code == 0, given.err
    assert not (given.run / "tune.json").exists()
    assert_identical(run, given.run)
    assert not differing([read_run(RunFolder(one)) for one in (run, given.run)])


def test_a_resumed_run_keeps_the_choice_and_measures_nothing(
    genlab: Genlab, times: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[bool] = []
    monkeypatch.setattr("genlab.training.compilation.compile_functions", lambda *_: compiled.append(True))
    started = times(bf16_mixed=5.0, true=5.0, compiled=2.0)
    result = genlab("train", *VAE, "trainer.tune=auto", "trainer.precision=32-true")
    assert result.code == 0, result.err
    assert trainer(result.run)["compile"] is True
    before = (result.run / "tune.json").read_bytes()
    assert len(compiled) == 1
    number = len(started)
    result = genlab("train", f"resume={result.run}", "trainer.max_epochs=3")
    assert result.code == 0, result.err
    assert len(compiled) == 2
    assert trainer(result.run)["compile"] is True
    assert len(started) == number
    assert (result.run / "tune.json").read_bytes() == before
    assert read_checkpoint(result.run / "checkpoints" / "last.ckpt")["epoch"] == 3 - 1
    result = genlab("train", f"resume={result.run}", "trainer.max_epochs=4", "trainer.tune=off")
    assert result.code == 2
    assert "trainer.tune was 'auto' and is 'off'" in result.err


def test_a_run_that_the_choice_leaves_as_it_is(genlab: Genlab, times: Any) -> None:
    times(bf16_mixed=5.0, true=5.0, compiled=5.1)
    result = genlab("train", *VAE, "trainer.tune=auto")
    assert result.code == 0, result.err
    assert trainer(result.run)["compile"] is False
    assert "chosen: nothing else saves 3% of the run" in result.err


def test_the_jobs_of_a_sweep_measure_once(genlab: Genlab, times: Any) -> None:
    started = times(bf16_mixed=5.0, true=5.0, compiled=9.0)
    result = genlab("train", "-m", *VAE, "trainer.tune=auto", "seed=1,2", "model.latent_dim=2,3")
    assert result.code == 0, result.err
    assert len(started) == 4  # two candidates for each latent_dim
    assert result.err.count("as measured for this sweep") == 2
    assert len(list(result.outputs.rglob("tune.json"))) == 4


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("trainer.compile=false",), "nothing is left to choose: trainer.compile=false was given"),
        (("debug=fast_dev_run",), "a run of fast_dev_run is over before"),
        ((), "2% of this run's time are"),
    ],
)
def test_what_is_not_measured_says_why(overrides: tuple[str, ...], line: str, genlab: Genlab) -> None:
    result = genlab("train", *VAE, "trainer.tune=auto", *overrides)
    assert result.code == 0, result.err
    assert line in result.err
    assert not (result.run / "tune.json").exists()
    assert trainer(result.run)["compile"] is False


def test_an_experiment_of_a_paper_keeps_its_own(genlab: Genlab, times: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genlab.launching.begin.start", lambda *_: None)  # it would train for hours
    started = times()
    result = genlab("train", "experiment=paper/mnist_iwae50", *AUTO, "dataset=digits")
    assert result.code == 0, result.err
    assert not started
    assert trainer(result.run)["compile"] == "auto"
    assert "experiment=paper/mnist_iwae50 stands for published figures" in result.err


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("trainer.tune=always",), "trainer.tune='always': input should be 'off' or 'auto'"),
        (("trainer.tune=auto", "trainer.tune_seconds=-1"), "trainer.tune_seconds=-1: above 0 and at most 600"),
        (("trainer.tune=auto", "trainer=ddp_cpu"), "trainer.tune=auto: it measures one device, and this run has 2"),
        (("trainer.tune_precision=true",), "nothing is measured with trainer.tune=off"),
        (("trainer.tf32=true", "trainer.precision=bf16-mixed"), "trainer.tf32=true: it rounds float32 matrix products"),
    ],
)
def test_bad_values_are_refused_in_a_line(overrides: tuple[str, ...], line: str, genlab: Genlab) -> None:
    result = genlab("train", *VAE, *overrides)
    assert result.code == 2
    assert line in result.err.splitlines()[-1]
    assert not list(result.outputs.rglob("status.json"))


def test_an_earlier_run_lacks_the_keys_and_resumes(genlab: Genlab) -> None:
    result = genlab("train", *VAE)
    run = result.run
    config = yaml.safe_load((run / "config.yaml").read_text())
    for key in ("tune", "tune_precision", "tune_seconds", "tf32"):
        del config["trainer"][key]
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert "trainer.compile" in resume.OF_THE_FIRST_START
    result = genlab("train", f"resume={run}", "trainer.max_epochs=3")
    assert result.code == 0, result.err
    with (run / "metrics.csv").open(newline="") as file:
        assert max(int(row["images_seen"]) for row in csv.DictReader(file)) == 3 * 256
