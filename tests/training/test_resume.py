"""A run that is killed at any moment and resumed ends as one that never was, to the bit."""

import json
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genlab.errors import InputError
from genlab.runs.checkpoints import read_checkpoint, write_checkpoint
from genlab.runs.folder import RunFolder
from genlab.runs.lock import held
from genlab.runs.resuming import newest_checkpoint
from support.command import Genlab, Trained
from support.forks import in_child
from support.kills import kill_at
from support.small_runs import COMMON, FAMILIES, assert_identical, only_run, outputs

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)


def half_written() -> None:
    """A trap: the second checkpoint stops in the middle of its bytes."""
    original, count = torch.save, iter(range(1, 10**6))

    def trapped(content: Any, path: Any) -> None:
        original(content, path)
        if next(count) == 2:
            os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = trapped


def kill_after(seconds: float) -> Callable[[], None]:
    """A trap: the process is ended by an alarm, wherever it is then."""

    def set_trap() -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, seconds)

    return set_trap


def kills(model: str) -> list[Callable[[], None]]:
    """Within an epoch, a checkpoint, between its two renamings, in validation, at the end; each is reached for sure."""
    procedure = "adversarial.AdversarialTraining" if model.startswith("gan") else "objective.ObjectiveTraining"
    return [
        kill_at(f"genlab.training.{procedure}.training_step", 3),
        kill_at(f"genlab.training.{procedure}.training_step", 9),
        half_written,
        kill_at("os.replace", 3),
        kill_at(f"genlab.training.{procedure}.validation_step", 2),
        kill_at("genlab.modalities.modality.Rendering.save", 1),
        kill_at(f"genlab.training.{procedure}.training_step", 8, after=True),
        kill_at("genlab.metrics.measures.fid.FID.__call__", 1),
    ]


@pytest.fixture(scope="module")
def whole_runs(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``whole_runs(model)``: the model's run that nothing interrupted, trained once."""

    @cache
    def of(model: str) -> Path:
        folder = tmp_path_factory.mktemp("whole")
        with pytest.MonkeyPatch.context() as apart:
            outputs(apart, folder)
            assert in_child(["train", f"model={model}", *COMMON, *FAMILIES[model]]) == 0
        return only_run(folder)

    return of


# One of each procedure is killed at all moments; the others at one, and at all in the slow tests.
KILLS = [
    *((model, kills(model)) for model in ("gan/dcgan", "vae/vae")),
    *((model, kills(model)[1:2]) for model in FAMILIES if model not in ("gan/dcgan", "vae/vae")),
    *(
        pytest.param(model, kills(model), marks=pytest.mark.slow)
        for model in FAMILIES
        if model not in ("gan/dcgan", "vae/vae")
    ),
]


@pytest.mark.parametrize(("model", "traps"), KILLS)
def test_killed_and_resumed_it_is_the_same_run(
    model: str,
    traps: list[Callable[[], None]],
    whole_runs: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At chosen moments, every one of which comes."""
    cut = outputs(monkeypatch, tmp_path / "cut")
    command = ["train", f"model={model}", *COMMON, *FAMILIES[model]]
    for trap in traps:
        assert in_child(command, trap) == -signal.SIGKILL
        run = only_run(cut)
        assert json.loads((run / "status.json").read_text())["status"] == "running"
        command = ["train", f"resume={run}"]
    assert in_child(command) == 0
    assert json.loads((run / "status.json").read_text())["status"] == "done"
    assert_identical(whole_runs(model), run)


@pytest.mark.slow
@pytest.mark.parametrize("model", FAMILIES)
def test_killed_at_any_moment_and_resumed_it_is_the_same_run(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Perhaps before there is a run, perhaps when it is done already."""
    command = arguments = ["train", f"model={model}", *COMMON, *FAMILIES[model]]
    whole = outputs(monkeypatch, tmp_path / "whole")
    started = time.monotonic()
    assert in_child(arguments) == 0
    seconds = time.monotonic() - started
    cut = outputs(monkeypatch, tmp_path / "random")
    code = -1
    for _ in range(3):
        code = in_child(command, kill_after(random.uniform(0.1, 0.7) * seconds))
        assert code in (0, -signal.SIGALRM)
        status = next(cut.rglob("status.json"), None)
        if code == 0 or (status is not None and json.loads(status.read_text())["status"] == "done"):
            code = 0  # the alarm may have come when all was written
            break
        if status is not None:
            command = ["train", f"resume={only_run(cut)}"]
        else:
            shutil.rmtree(cut, ignore_errors=True)
    assert code == 0 or in_child(command) == 0
    assert_identical(only_run(whole), only_run(cut))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1, signal.SIGINT])
def test_a_signal_lets_the_batch_end_and_leaves_a_run_to_resume(
    number: signal.Signals, whole_runs: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"]]
    cut = outputs(monkeypatch, tmp_path / "cut")
    code = in_child(arguments, kill_at("genlab.training.objective.ObjectiveTraining.training_step", 15, number))
    assert code == 128 + number
    run = only_run(cut)
    status = json.loads((run / "status.json").read_text())
    assert (status["status"], status["reason"]) == ("interrupted", number.name)
    # Of batch 16, as gradients of two are added up, though the last regular checkpoint was of batch 14.
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["progress"]["batches_seen"] == 16
    assert in_child(["train", f"resume={run}"]) == 0
    assert_identical(whole_runs("vae/vae"), run)


def test_what_has_changed_is_named(genlab: Genlab, trained: Trained) -> None:
    run = trained("model=vae/vae", *COMMON, *FAMILIES["vae/vae"])
    assert f"{run} is done" in genlab("train", f"resume={run}").err
    result = genlab("train", f"resume={run}", "training.optimizer.lr=0.5", "model.latent_dim=3")
    assert result.code == 2
    assert "model.latent_dim was 32 and is 3" in result.err
    assert "training.optimizer.lr was 0.001 and is 0.5" in result.err
    assert "What may change: budget" in result.err
    assert result.err.count("\n") == 1
    # A larger budget trains a finished run on.
    longer = genlab("train", f"resume={run}", "trainer.max_epochs=4", "schedule.warmup_steps=0")
    assert longer.code == 0, longer.err
    summary = json.loads((run / "summary.json").read_text())
    assert summary["images_seen"] == 4 * 12 * 32
    assert "there is no run folder" in genlab("train", "resume=nowhere").err


def test_a_run_that_is_running_is_left_alone(genlab: Genlab, trained: Trained) -> None:
    run = trained("model=vae/vae", *COMMON, *FAMILIES["vae/vae"])
    with held(run):
        assert f"is being trained by the process {os.getpid()} of this machine" in genlab("train", f"resume={run}").err


def test_a_loss_that_is_no_number_ends_the_run_and_keeps_good_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def trap() -> None:
        from genlab.models.vae.vae import VAE

        original, count = VAE.loss, iter(range(10**6))

        def broken(self: VAE, *batch: torch.Tensor) -> dict[str, torch.Tensor]:
            losses = original(self, *batch)
            return {k: v * float("nan") for k, v in losses.items()} if next(count) >= 20 else losses

        VAE.loss = broken  # type: ignore[method-assign]

    folder = outputs(monkeypatch, tmp_path)
    assert in_child(["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"]], trap) == 2
    run = only_run(folder)
    status = json.loads((run / "status.json").read_text())
    assert status["status"] == "failed"
    assert "train/loss is nan after" in status["reason"]
    assert status["last_checkpoint"] == str(run / "checkpoints" / "last.ckpt")
    weights = read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"]
    assert all(w.isfinite().all() for w in weights.values() if isinstance(w, torch.Tensor) and w.is_floating_point())


# -- damaged checkpoints -----------------------------------------------------------------------------------------------


class Evil:
    """Unpickled carelessly, it leaves a file behind."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return (Path.write_text, (self.path, "executed"))


def damage(path: Path, how: str) -> None:
    content = bytearray(path.read_bytes())
    if how == "truncated":
        path.write_bytes(content[: len(content) // 2])
    elif how == "flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif how == "empty":
        path.write_bytes(b"")
    else:
        torch.save({"state_dict": {}, "evil": Evil(path.with_name("executed"))}, path)


@pytest.mark.parametrize("how", ["truncated", "flipped", "empty", "code"])
def test_a_damaged_checkpoint_never_runs_code_and_never_loses_the_run(
    how: str, whole_runs: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab
) -> None:
    arguments = ["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"]]
    cut = outputs(monkeypatch, tmp_path / "cut")
    trap = kill_at("genlab.training.objective.ObjectiveTraining.training_step", 20)
    assert in_child(arguments, trap) == -signal.SIGKILL
    run = only_run(cut)
    damage(run / "checkpoints" / "last.ckpt", how)
    result = genlab("train", f"resume={run}")
    assert result.code == 0, result.err
    assert "last.ckpt cannot be read as a checkpoint" in result.err
    assert "going on from previous.ckpt instead" in result.err
    assert not (run / "checkpoints" / "executed").exists()
    assert_identical(whole_runs("vae/vae"), run)

    # Both of them: one clear line, and nothing is lost or run.
    for name in ("last.ckpt", "previous.ckpt"):
        damage(run / "checkpoints" / name, how)
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "status": "interrupted"}))
    result = genlab("train", f"resume={run}")
    assert result.code == 2
    assert "no checkpoint is left to resume" in result.err
    assert not (run / "checkpoints" / "executed").exists()
    if how == "code":
        for verb in ("evaluate", "sample"):
            damage(run / "checkpoints" / "best.ckpt", how)
            assert genlab(verb, f"run={run}").code == 2
        assert not (run / "checkpoints" / "executed").exists()


def test_what_was_the_newest_becomes_the_one_before(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path / "run")
    assert newest_checkpoint(folder) is None
    for i in range(3):
        write_checkpoint({"state_dict": {}, "i": i}, folder.checkpoints / "last.ckpt")
    assert [read_checkpoint(folder.checkpoints / f"{name}.ckpt")["i"] for name in ("last", "previous")] == [2, 1]
    assert sorted(p.name for p in folder.checkpoints.iterdir()) == ["last.ckpt", "previous.ckpt"]


def test_every_flipped_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "x.ckpt"
    write_checkpoint({"state_dict": {"w": torch.randn(100)}}, path)
    content = path.read_bytes()
    rng = np.random.default_rng(0)
    for at in [*rng.integers(0, len(content) - 40, 50), len(content) - 1]:
        flipped = bytearray(content)
        flipped[at] ^= 1 << int(rng.integers(8))
        path.write_bytes(flipped)
        with pytest.raises(InputError, match="cannot be read as a checkpoint"):
            read_checkpoint(path)
    # Another program's file has no checksum, and is read as it is.
    torch.save({"state_dict": {}}, path)
    assert read_checkpoint(path) == {"state_dict": {}}


def test_a_run_folder_that_was_moved_is_resumed_from_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = outputs(monkeypatch, tmp_path / "outputs")
    stop = kill_at("genlab.training.objective.ObjectiveTraining.training_step", 20, signal.SIGTERM)
    assert in_child(["train", "model=vae/vae", *COMMON, "model.networks.hidden=[16]"], stop) == 143
    only_run(folder).rename(tmp_path / "elsewhere")
    monkeypatch.chdir(tmp_path)
    assert in_child(["train", "resume=elsewhere"]) == 0
    status = json.loads((tmp_path / "elsewhere" / "status.json").read_text())
    assert status["status"] == "done"
    assert (tmp_path / "elsewhere" / "checkpoints" / "best.ckpt").is_file()
