"""What ends a run that was well configured is one line, exit code 2 and a status that says why."""

import errno
import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from genlab.composition.explaining import explain
from genlab.errors import Diverged, RunFailed
from genlab.machine.files import discard, write_atomically, write_even_if_full
from genlab.runs.checkpoints import read_checkpoint, write_checkpoint
from genlab.runs.folder import RunFolder
from support.command import FAST, Genlab

SMALL = ("model.networks.hidden=[8]", "callbacks=minimal", *FAST)


def failed(genlab: Genlab, *arguments: str) -> tuple[str, dict[str, Any]]:
    """Train, and give the one line of the error and the run's status."""
    result = genlab("train", *arguments)
    assert result.code == 2, result.err
    lines = [line for line in result.err.splitlines() if line.startswith("genlab: error: ")]
    assert len(lines) == 1, result.err
    assert "Traceback" not in result.err
    status = json.loads((result.run / "status.json").read_text())
    assert status["status"] == "failed"
    return lines[0], status


@pytest.mark.parametrize(
    ("overrides", "what"),
    [
        (("training.optimizer.lr=1e30",), "train/loss is nan"),
        (("model=gan/dcgan", "model.channels=4", "training.generator_optimizer.lr=1e30"), "generator_loss is nan"),
    ],
)
def test_a_training_that_diverges(genlab: Genlab, overrides: tuple[str, ...], what: str) -> None:
    small = SMALL if "model=gan/dcgan" not in overrides else ("callbacks=minimal", *FAST)
    line, status = failed(genlab, *small, "trainer.log_every_n_steps=1", *overrides)
    assert "the training diverged: " in line
    assert what in line or "weights are NaN" in line
    assert "batches)" in line
    assert "try a lower training.optimizer.lr" in line
    assert status["reason"].startswith("the training diverged: ")


REFUSALS: list[tuple[Exception, str]] = [
        (MemoryError(), "this machine has too little memory: a smaller"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: "
                         "you tried to allocate 32212254720 bytes. Error code 12 (Cannot allocate memory)"),
            "this machine has too little memory (30.0 GiB more were asked for)",
        ),
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of"),
            "the GPU has too little memory (20 GiB more were asked for)",
        ),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), "the GPU has too little"),
        (RuntimeError("std::bad_alloc"), "this machine has too little memory"),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "this machine has too little memory"),
        (OSError(errno.ENOSPC, "No space left on device", "/x/last.ckpt"), "/x/last.ckpt: no space left on device; m"),
        (OSError(errno.EROFS, "Read-only file system", "/x"), "/x: read-only file system; choose another place"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), "/x: permission denied; change the permissions"),
        (OSError(errno.EDQUOT, "Disk quota exceeded"), "disk quota exceeded; make room"),
    ]  # fmt: skip


@pytest.mark.parametrize(("raised", "said"), REFUSALS)
def test_what_the_machine_refuses(raised: Exception, said: str) -> None:
    assert said in str(explain(raised))


@pytest.mark.parametrize(("raised", "said"), [REFUSALS[1], REFUSALS[6]])
def test_what_the_machine_refuses_in_training(
    genlab: Genlab, monkeypatch: pytest.MonkeyPatch, raised: Exception, said: str
) -> None:
    """The line on the terminal may know more than the status, such as the folder to go on with."""

    def broken(*_: object) -> None:
        raise raised

    monkeypatch.setattr("genlab.models.vae.vae.VAE.loss", broken)
    line, status = failed(genlab, *SMALL)
    assert said in line or "no space left on the disk of" in line
    assert said in status["reason"]


def test_arrays_that_do_not_fit() -> None:
    with pytest.raises(MemoryError) as error:
        np.empty(2**60, np.uint8)
    assert "too little memory (1 EiB more were asked for)" in str(explain(error.value))


def test_a_model_that_does_not_fit(genlab: Genlab) -> None:
    result = genlab("train", "model.networks.hidden=[4000000000]", *FAST)
    assert result.code == 2, result.err
    assert result.err.count("\n") == 1
    assert "too little memory" in result.err


def test_another_process_of_the_run() -> None:
    said = "/outputs/x: the training diverged"
    assert explain(RunFailed(said)) == said
    assert "after 1,280 images (20 batches)" in str(explain(Diverged("train/loss is nan", 1280, 20)))


def test_a_bug_stays_a_bug() -> None:
    for error in (KeyError("x"), RuntimeError("shapes (2,3) and (4,5)"), AssertionError(), TypeError("x")):
        assert explain(error) is None


def test_terminals_are_not_controlled_by_errors(genlab: Genlab, tmp_path: Path) -> None:
    folder = tmp_path / "\x1b]0;owned\x07"
    folder.mkdir()
    result = genlab("compare", folder)
    assert result.code == 2
    assert "\x1b" not in result.err
    assert "\\x1b]0;owned\\x07" in result.err


# -- a disk that is full -----------------------------------------------------------------------------------------------


def in_fork(task: Callable[[], None]) -> None:
    """Run a task in a fork, for limits that a process cannot give back."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            task()
            code = 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_checkpoint_that_does_not_fit(tmp_path: Path) -> None:
    """The system's reason is told, the old checkpoint stays, and no half of the new one."""
    path = tmp_path / "last.ckpt"
    write_checkpoint({"state_dict": {"w": torch.zeros(10)}}, path)

    def task() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
        with pytest.raises(OSError, match="too large") as error:
            write_checkpoint({"state_dict": {"w": torch.zeros(2**20)}}, path)
        assert error.value.errno == errno.EFBIG
        assert error.value.filename == str(path)

    in_fork(task)
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert read_checkpoint(path)["state_dict"]["w"].shape == (10,)


def test_a_file_that_is_open_gives_its_space_back(tmp_path: Path) -> None:
    path = tmp_path / "half"
    path.write_bytes(b"x" * 10_000)
    with path.open("rb") as still_open:
        discard(path)
        assert os.fstat(still_open.fileno()).st_size == 0
    assert not path.exists()
    discard(path)


def test_a_status_is_written_to_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = RunFolder(tmp_path)
    folder.set_status("running")

    def full(path: Path, content: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr("genlab.machine.files.write_atomically", full)
    folder.set_status("failed", reason="the disk is full")
    assert folder.read_json("status.json")["status"] == "failed"
    assert folder.read_json("status.json")["reason"] == "the disk is full"
    with pytest.raises(OSError, match="No such file"):
        write_even_if_full(tmp_path / "new", "x")


def test_a_write_that_fails_names_the_file_and_leaves_none(tmp_path: Path) -> None:
    def task() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        with pytest.raises(OSError, match="too large") as error:
            write_atomically(tmp_path / "summary.json", "x" * 10_000)
        assert error.value.filename == str(tmp_path / "summary.json")

    in_fork(task)
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_run_on_a_full_disk(tmp_path: Path) -> None:
    """On a file system of 3 MB, a run whose checkpoint takes 10: it fails, says why, and leaves room."""
    unshare = shutil.which("unshare")
    mounted = f"mount -t tmpfs -o size=3m none {tmp_path}"
    if unshare is None or subprocess.run([unshare, "-Urm", "sh", "-c", mounted], check=False).returncode:
        pytest.skip("no file system can be mounted here")
    train = (
        f"GENLAB_OUTPUTS={tmp_path} {sys.executable} -m genlab train logger=csv 'model.networks.hidden=[700]' "
        "callbacks=minimal trainer.max_epochs=1 metrics.num_samples=20"
    )
    done = subprocess.run(
        [unshare, "-Urm", "sh", "-c", f"{mounted} && {train}; code=$?; cat {tmp_path}/*/*/status.json; exit $code"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert "no space left on the disk of" in done.stderr.splitlines()[-1]
    assert json.loads(done.stdout)["status"] == "failed"
    assert "no space left on device" in json.loads(done.stdout)["reason"]
