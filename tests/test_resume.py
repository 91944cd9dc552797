"""A run that is killed at any moment and resumed ends as one that never was, to the bit."""

import csv
import json
import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import Genlab
from genlab.errors import InputError
from genlab.runs.checkpoints import read_checkpoint, write_checkpoint
from genlab.runs.folder import RunFolder
from genlab.runs.resuming import newest_checkpoint

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

# One of each family, small: 12 batches an epoch, three epochs, a checkpoint also within each of them, averaged weights,
# a schedule, and what is particular to a procedure: gradients added up, D's steps before one of G.
COMMON = (
    "dataset.train_size=400", "dataset.batch_size=32", "dataset.val_size=40", "+dataset.eval_batch_size=20",
    "trainer.max_epochs=3", "trainer.log_every_n_steps=2", "training.ema_decay=0.9", "schedule=cosine",
    "callbacks.last.every_images=150", "callbacks.sample_metrics.num_samples=20", "metrics.num_samples=16",
    "metrics.num_test=20", "metrics.num_shown=4", "callbacks.sample_grid.num_samples=4", "logger=csv",
)  # fmt: skip
FAMILIES = {
    "gan/dcgan": ("model.channels=4", "training.discriminator_steps=2", "training.gradient_clip=1.0"),
    "vae/vae": ("model.networks.hidden=[16]", "training.accumulate=2", "training.gradient_clip=1.0"),
    "vae/vq_vae": ("model.channels=8", "model.num_codes=8", "model.num_blocks=1", "model.restart_below=0.5"),
    "flow/real_nvp": ("model.width=8", "+dataset.flip=true"),
    "autoregressive/pixel_cnn": ("model.channels=4", "model.num_layers=2", "trainer.precision=bf16-mixed"),
    "transformer/image_gpt": ("model.width=8", "model.num_heads=1", "model.num_layers=1", "model.dropout=0.1"),
}


def in_child(arguments: Sequence[str], trap: Callable[[], None] | None = None) -> int:
    """Run the command in a fork of this process, which has imported everything; gives its exit code, -9 if killed."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            devnull = os.open(os.environ.get("GENLAB_TEST_LOG", os.devnull), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(devnull, 1)
            os.dup2(devnull, 2)
            sys.stdout = sys.stderr = os.fdopen(devnull, "a", buffering=1)  # pytest's are its own
            from genlab.cli import main

            if trap is not None:
                trap()
            main(list(arguments))
            code = 0
        except SystemExit as stop:
            code = int(stop.code or 0)
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    try:
        _, status = os.waitpid(pid, 0)
    except BaseException:  # the test's time is up
        os.kill(pid, signal.SIGKILL)
        raise
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def kill_at(target: str, call: int, number: int = signal.SIGKILL, after: bool = False) -> Callable[[], None]:
    """A trap: the process kills itself at the n-th call of ``module.Class.method``."""

    def set_trap() -> None:
        import importlib

        where, name = target.rsplit(".", 1)
        try:
            owner: Any = importlib.import_module(where)
        except ModuleNotFoundError:
            module, kind = where.rsplit(".", 1)
            owner = getattr(importlib.import_module(module), kind)
        original, count = getattr(owner, name), iter(range(1, 10**6))

        def trapped(*args: Any, **kwargs: Any) -> Any:
            hit = next(count) == call
            if hit and not after:
                os.kill(os.getpid(), number)
            result = original(*args, **kwargs)
            if hit and after:
                os.kill(os.getpid(), number)
            return result

        setattr(owner, name, trapped)

    return set_trap


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
        kill_at("genlab.callbacks.sample_grid.save_png", 1),
        kill_at(f"genlab.training.{procedure}.training_step", 8, after=True),
        kill_at("genlab.metrics.measures.fid.FID.__call__", 1),
    ]


MACHINE = ("seconds", "train/images_per_second", "train/peak_memory_mb")


def only_run(outputs: Path) -> Path:
    (config,) = outputs.rglob("config.yaml")
    return config.parent


def history(run: Path) -> list[dict[str, str]]:
    """All that was logged but times, speed and memory."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    kept = [{k: v for k, v in row.items() if v and k not in MACHINE} for row in rows]
    return [row for row in kept if row.keys() - {"images_seen"}]


def same(a: Any, b: Any) -> bool:
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def assert_identical(run: Path, other: Path) -> None:
    assert history(run) == history(other)
    for name in ("last.ckpt", "best.ckpt"):
        a, b = (read_checkpoint(r / "checkpoints" / name) for r in (run, other))
        for checkpoint in (a, b):
            del checkpoint["progress"]["rows_logged"]  # the speed has none where it could not be measured
        for part in ("state_dict", "optimizer_states", "lr_schedulers", "progress", "randomness", "global_step"):
            assert same(a[part], b[part]), (name, part)
    assert np.array_equal(*(np.load(r / "samples" / "final.npy") for r in (run, other)))
    assert sorted(p.name for p in (run / "samples").iterdir()) == sorted(p.name for p in (other / "samples").iterdir())
    for picture in (run / "samples").glob("0*.png"):
        assert picture.read_bytes() == (other / "samples" / picture.name).read_bytes()
    figures, others = (json.loads((r / "summary.json").read_text())["metrics"] for r in (run, other))
    assert {k: v["value"] for k, v in figures.items()} == {k: v["value"] for k, v in others.items()}


def outputs(monkeypatch: pytest.MonkeyPatch, folder: Path) -> Path:
    monkeypatch.setenv("GENLAB_OUTPUTS", str(folder))
    return folder


@pytest.mark.parametrize("model", FAMILIES)
def test_killed_anywhere_and_resumed_it_is_the_same_run(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["train", f"model={model}", *COMMON, *FAMILIES[model]]
    whole = outputs(monkeypatch, tmp_path / "whole")
    started = time.monotonic()
    assert in_child(arguments) == 0
    seconds = time.monotonic() - started

    # At chosen moments, every one of which comes.
    cut = outputs(monkeypatch, tmp_path / "cut")
    command = arguments
    for trap in kills(model):
        assert in_child(command, trap) == -signal.SIGKILL
        run = only_run(cut)
        assert json.loads((run / "status.json").read_text())["status"] == "running"
        command = ["train", f"resume={run}"]
    assert in_child(command) == 0
    assert json.loads((run / "status.json").read_text())["status"] == "done"
    assert_identical(only_run(whole), run)

    # At any moment: perhaps before there is a run, perhaps when it is done already.
    cut = outputs(monkeypatch, tmp_path / "random")
    command = arguments
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
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"]]
    whole = outputs(monkeypatch, tmp_path / "whole")
    assert in_child(arguments) == 0
    cut = outputs(monkeypatch, tmp_path / "cut")
    code = in_child(arguments, kill_at("genlab.training.objective.ObjectiveTraining.training_step", 15, number))
    assert code == 128 + number
    run = only_run(cut)
    status = json.loads((run / "status.json").read_text())
    assert (status["status"], status["reason"]) == ("interrupted", number.name)
    # Of batch 16, as gradients of two are added up, though the last regular checkpoint was of batch 14.
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["progress"]["batches_seen"] == 16
    assert in_child(["train", f"resume={run}"]) == 0
    assert_identical(only_run(whole), run)


def test_what_has_changed_is_named(genlab: Genlab) -> None:
    run = genlab("train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"]).run
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


def test_a_run_that_is_running_is_left_alone(genlab: Genlab) -> None:
    run = genlab("train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"]).run
    status = json.loads((run / "status.json").read_text())
    (run / "status.json").write_text(json.dumps({**status, "status": "running", "pid": os.getppid()}))
    assert f"is being trained by the process {os.getppid()}" in genlab("train", f"resume={run}").err


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
    assert in_child(["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"]], trap) == 1
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
    how: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab
) -> None:
    arguments = ["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"]]
    whole = outputs(monkeypatch, tmp_path / "whole")
    assert in_child(arguments) == 0
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
    assert_identical(only_run(whole), run)

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
