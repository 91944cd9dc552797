"""The contract with programs: exit codes, the last line of JSON, no questions asked, budgets that are kept."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from genlab.cli import COMMANDS
from genlab.errors import Diverged
from support.command import FAST, Genlab, Result, Trained

SMALL = ("model.networks.hidden=[16]", "callbacks=minimal", *FAST)


def told(result: Result) -> dict[str, Any]:
    """The last line of standard output, which says the same exit code as the process."""
    content: dict[str, Any] = json.loads(result.out.splitlines()[-1])
    assert content["exit_code"] == result.code
    assert content["ok"] == (result.code == 0)
    return content


def test_training_tells_the_folder_and_the_figures(genlab: Genlab) -> None:
    result = genlab("train", *SMALL, "--json")
    content = told(result)
    summary = json.loads((result.run / "summary.json").read_text())
    assert (content["command"], content["status"], content["run"]) == ("train", "done", str(result.run))
    assert content["figures"] == summary["metrics"]
    assert content["images_seen"] == 512


def test_every_other_command_tells_what_it_made(genlab: Genlab, trained: Trained, tmp_path: Path) -> None:
    run = trained(*SMALL)
    measured = told(genlab("evaluate", run, "metrics.num_samples=80", "metrics.importance_samples=null", "--json"))
    (one,) = measured["evaluations"]
    assert one["folder"] == str(run)
    assert one["figures"]["test/fid"]["protocol"]["num_samples"] == 80
    drawn = told(genlab("sample", run, "n=4", "--json"))
    assert all(Path(file).is_file() for file in drawn["files"])
    exported = told(genlab("export", "--json", run))
    assert (Path(exported["folder"]) / "model.safetensors").is_file()
    compared = told(genlab("compare", run, "--html", tmp_path / "page.html", "--json"))
    assert compared["table"]["rows"][0]["runs"][0]["folder"] == str(run)
    assert Path(compared["page"]).is_file()
    assert told(genlab("reproduce", "--list", "exact_ring2d", "--json"))["command"] == "reproduce"


@pytest.mark.slow
def test_a_benchmark_tells_what_it_measured(genlab: Genlab) -> None:
    few = ("benchmark.rounds=1", "benchmark.steps=2", "benchmark.num_samples=0")
    assert told(genlab("benchmark", *SMALL[:1], *few, "--json"))["pairs"]


def test_a_sweep_tells_of_every_job(genlab: Genlab) -> None:
    result = genlab("train", "-m", "model.latent_dim=0,4", *SMALL, "--json")
    content = told(result)
    assert result.code == 2
    assert [run["status"] for run in content["runs"]] == ["failed", "done"]
    assert "latent_dim=0" in content["runs"][0]["reason"]
    assert content["error"]["kind"] == "input"
    assert Path(content["sweep"]).is_dir()


WRONG: dict[str, tuple[str, ...]] = {
    "train": ("model.latent_dim=-1",),
    "evaluate": ("nowhere",),
    "sample": ("nowhere",),
    "export": ("nowhere",),
    "play": ("nowhere",),
    "compare": ("nowhere",),
    "reproduce": ("nowhere",),
    "runs": ("nowhere",),
    "models": ("--config-dir", "nowhere"),
    "datasets": ("--config-dir", "nowhere"),
    "benchmark": ("model=nowhere",),
    "dashboard": (".",),
    "nonsense": (),
}


@pytest.mark.parametrize("command", WRONG)
def test_a_wrong_input_is_code_2_and_one_line_everywhere(
    genlab: Genlab, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert WRONG.keys() == {*COMMANDS, "nonsense"}
    result = genlab(command, *WRONG[command], "--json")
    content = told(result)
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert content["error"] == {"kind": "input", "message": line.removeprefix("genlab: error: ")}
    assert result.out.count("\n") == 1
    parsed = command in ("reproduce", "runs", "models", "datasets")
    unknown = genlab(command, "--nonsense", "--json") if parsed else result
    assert told(unknown)["error"]["kind"] == "input"


@pytest.mark.parametrize(
    ("error", "code", "kind"),
    [
        (Diverged("train/loss is nan", 8, 1), 2, "diverged"),
        (OSError(28, "No space left on device", "x"), 2, "system"),
        (MemoryError(), 2, "memory"),
        (ZeroDivisionError("of ours"), 1, "bug"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_what_ends_a_run_has_a_code_and_a_kind(
    genlab: Genlab, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int, kind: str
) -> None:
    def breaks(*_: object) -> None:
        raise error

    monkeypatch.setattr("genlab.models.vae.vae.VAE.loss", breaks)
    result = genlab("train", *SMALL, "--json")
    content = told(result)
    assert (result.code, content["error"]["kind"]) == (code, kind)
    assert content["status"] == ("interrupted" if code == 130 else "failed")
    assert content["run"] == str(result.run)


@pytest.mark.e2e
def test_a_signal_ends_with_its_code_and_nothing_is_asked(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "genlab", "train", *SMALL, "trainer.max_epochs=-1", "logger=csv", "--json"]
    environment = {**os.environ, "GENLAB_OUTPUTS": str(tmp_path)}
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment, text=True
    )
    until = time.monotonic() + 90
    while time.monotonic() < until and not list(tmp_path.rglob("last.ckpt")):
        time.sleep(0.1)
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    content = json.loads(out.splitlines()[-1])
    assert process.returncode == content["exit_code"] == 128 + signal.SIGTERM
    assert content["error"]["kind"] == content["status"] == "interrupted"


@pytest.mark.parametrize(
    ("budget", "images"), [("budget.images=300", (300, 320)), ("trainer.max_time=00:00:00:01", None)]
)
def test_a_budget_ends_a_run_that_would_go_on(genlab: Genlab, budget: str, images: tuple[int, int] | None) -> None:
    endless = ("trainer.max_epochs=-1", budget)
    content = told(genlab("train", *SMALL, *endless, "--json"))
    assert content["status"] == "done"
    if images is not None:
        assert images[0] <= content["images_seen"] <= images[1]
