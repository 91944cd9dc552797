"""W&B's process dies, at any moment: the run goes on, says so once, and loses nothing of its own."""

import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import wandb
from PIL import Image

from genlab.errors import InputError
from genlab.loggers.wandb import ByImagesSeen, close_run, wandb_logger
from support.forks import in_child
from support.small_runs import outputs

SMALL = (
    "model=vae/vae", "model.networks.hidden=[8]", "trainer.max_epochs=2", "dataset.train_size=128",
    "metrics.num_samples=16", "metrics.num_test=16", "metrics.num_shown=4", "logger.wandb.checkpoints=true",
)  # fmt: skip
LOST = "genlab: W&B failed (ConnectionResetError"


class Gone:
    """A run of W&B whose process is gone: whatever is asked of it fails."""

    def __getattr__(self, name: str) -> Any:
        raise ConnectionResetError("Connection lost")


CALLS: dict[str, Callable[[ByImagesSeen, Path], Any]] = {
    "figures": lambda logger, folder: logger.log_metrics({"val/nll": 1.0}, step=64),
    "config": lambda logger, folder: logger.log_hyperparams({"seed": 1}),
    "picture": lambda logger, folder: logger.log_image("samples", [Image.new("L", (4, 4))], step=64),
    "text": lambda logger, folder: logger.log_text("samples", columns=["text"], data=[["a"]], step=64),
    "table": lambda logger, folder: logger.log_samples("samples", [Image.new("L", (4, 4))], ["a"], 64),
    "protocols": lambda logger, folder: logger.log_facts({}, {"test/fid": {"num": 3}}),
    "end": lambda logger, folder: logger.close("failed", "a reason"),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_failure_is_said_once(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    logger = ByImagesSeen(Gone())
    CALLS[name](logger, tmp_path)
    for call in CALLS.values():
        call(logger, tmp_path)
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith(LOST)
    assert "the run goes on without it" in said
    assert logger.lost


def test_a_process_that_cannot_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def init(**_: Any) -> None:
        raise wandb.errors.WandbCoreNotAvailableError("there is no wandb-core")

    monkeypatch.setattr(wandb, "init", init)
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = wandb_logger(str(tmp_path), "genlab", id="1234")
    for call in CALLS.values():
        call(logger, tmp_path)  # type: ignore[arg-type]
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "there is no wandb-core" in said


def test_a_wrong_setting_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    with pytest.raises(InputError, match="project"):
        wandb_logger(str(tmp_path), "a/b#c", id="1234")


def test_the_end_of_a_run_that_cannot_be_told(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    def finish(**_: Any) -> None:
        raise BrokenPipeError("gone")

    monkeypatch.setattr(wandb, "finish", finish)
    close_run(0)
    assert capsys.readouterr().err.startswith("genlab: W&B failed (BrokenPipeError: gone)")
    close_run(0, lost=True)
    assert not capsys.readouterr().err


def kill_wandb_at(target: str, call: int) -> Callable[[], None]:
    """A trap: W&B's process is killed before the n-th call of ``module.Class.method``."""

    def set_trap() -> None:
        where, name = target.rsplit(".", 1)
        try:
            owner: Any = importlib.import_module(where)
        except ModuleNotFoundError:
            module, kind = where.rsplit(".", 1)
            owner = getattr(importlib.import_module(module), kind)
        original, count = getattr(owner, name), iter(range(1, 10**6))

        def trapped(*args: Any, **kwargs: Any) -> Any:
            if next(count) == call:
                killed = [pid for pid in descendants(os.getpid()) if "wandb-core" in command(pid)]
                for pid in killed:
                    os.kill(pid, signal.SIGKILL)
                assert killed
                time.sleep(0.2)
            return original(*args, **kwargs)

        setattr(owner, name, trapped)

    return set_trap


def descendants(pid: int) -> list[int]:
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
        except OSError:  # it ended
            continue
    found = [pid]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found[1:]


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text()
    except OSError:
        return ""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize(
    ("target", "call"),
    [
        ("genlab.loggers.wandb.ByImagesSeen._log_metrics", 3),
        *(
            pytest.param(target, 1, marks=pytest.mark.slow)
            for target in (
                "genlab.loggers.wandb._send_lacking",
                "genlab.loggers.wandb.ByImagesSeen.log_hyperparams",
                "genlab.loggers.wandb.ByImagesSeen.log_image",
                "genlab.loggers.wandb.ByImagesSeen.send_samples",
                "genlab.loggers.wandb.ByImagesSeen.send_facts",
                "genlab.loggers.wandb.ByImagesSeen._upload",
                "genlab.loggers.wandb.close_run",
            )
        ),
    ],
)
def test_its_process_is_killed(target: str, call: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outputs(monkeypatch, tmp_path / "outputs")
    log = tmp_path / "log"
    monkeypatch.setenv("GENLAB_TEST_LOG", str(log))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    assert in_child(["train", *SMALL], kill_wandb_at(target, call)) == 0, log.read_text()
    (status,) = folder.rglob("status.json")
    assert json.loads(status.read_text())["status"] == "done"
    rows = (status.parent / "metrics.csv").read_text().splitlines()
    assert rows[-1].startswith("256,")
    assert (status.parent / "summary.json").is_file()
    text = log.read_text()
    assert text.count("genlab: W&B failed") == 1
    assert "Traceback" not in text
    assert "socket.send() raised" not in text
