"""What a person sees of a parallel sweep: a line per job on a terminal and in a file, logs, and how long it takes."""

import io
import json
import os
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pexpect
import pytest
from rich.console import Console

from genlab.launching.board import Board
from genlab.launching.job_log import STATES
from genlab.launching.show_sweep import _screenful, shown
from genlab.machine import told
from support.command import FAST


def tells(folder: Path, job: int, **state: Any) -> None:
    (folder / STATES).mkdir(exist_ok=True)
    (folder / STATES / f"{job}.json").write_text(json.dumps({"state": "running", "began": 100.0, **state}))


def drawn(board: Board, now: float, width: int = 80, height: int = 24) -> list[str]:
    screen = Console(width=width, height=height, file=io.StringIO(), legacy_windows=False, color_system=None)
    with screen.capture() as text:
        screen.print(_screenful(board, now, width, height))
    return text.get().rstrip("\n").split("\n")


def test_the_board_says_what_jobs_tell(tmp_path: Path) -> None:
    board = Board(tmp_path, 0, [["a=1", "seed=1"], ["a=1", "seed=2"], ["a=1", "seed=3"], ["a=1", "seed=4"]], 4)
    board.began = 100.0
    tells(tmp_path, 0, stage="training", fraction=0.5, trained=0.5, left=20.0)
    tells(tmp_path, 1, state="failed", reason="no luck\nat all", ended=107.0)
    tells(tmp_path, 2, state="done", best=2.25, ended=105.0)
    assert [job.num for job in board.refresh()] == [2, 1]  # in the order in which they ended
    assert board.refresh() == []
    lines = drawn(board, now=120.0)
    assert lines[0].split() == ["job", "2", "done", "0:00:05", "best", "2.25", "seed=3"]
    assert lines[1].split() == ["job", "1", "failed", "0:00:07", "no", "luck", "at", "all", "(seed=2)"]
    assert lines[2].split() == ["job", "0", "training", "50%", "0:00:20", "left", "seed=1"]
    # In 20 seconds 2 jobs and 0.95 * 0.5 of one: the other 1.525 take 12 seconds.
    assert lines[3].endswith("62% 1 of 4 done, 1 failed, 1 running, 0:00:12 left")
    assert len(lines) == 4


def test_jobs_done_before_tell_nothing_about_the_time_left(tmp_path: Path) -> None:
    overrides = [[f"seed={i}"] for i in range(4)]
    board = Board(tmp_path, 0, overrides, 4, done=frozenset({0, 1}))
    board.began = 100.0
    for job in (0, 1):
        tells(tmp_path, job, state="done", ended=101.0)
    tells(tmp_path, 2, state="done", ended=130.0)
    board.refresh()
    assert board.work == 0.75
    assert board.left(130.0) == pytest.approx(30.0)


@pytest.mark.parametrize("num_running", [3, 60])
def test_a_thousand_jobs_fit_on_a_terminal_and_are_read_fast(tmp_path: Path, num_running: int) -> None:
    board = Board(tmp_path, 0, [["x=1", f"seed={i}", f"training.optimizer.lr={i / 7}"] for i in range(1000)], 1000)
    for job in range(600):
        tells(tmp_path, job, state="done", ended=100.0 + job, best=1.0)
    for job in range(600, 600 + num_running):
        tells(tmp_path, job, stage="training", fraction=0.3, trained=0.3, left=70.0)
    board.refresh()
    begun = time.process_time()
    for _ in range(10):
        board.refresh()
    assert (time.process_time() - begun) / 10 < 0.05  # of half a second
    lines = drawn(board, now=1000.0)
    assert len(lines) <= 23
    assert all(len(line) <= 80 for line in lines)
    text = "\n".join(lines)
    assert "600 of 1,000 done" in lines[-1]
    assert "job 600  training 30%" in text
    if num_running == 3:
        assert [line.split()[1] for line in lines[:5]] == ["595", "596", "597", "598", "599"]  # the last finished
    else:
        assert lines[-2].split() == ["and", "40", "more", "that", "run"]


def test_lines_of_a_log_file_have_times_and_reasons(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    board = Board(tmp_path, 0, [["seed=1"], ["seed=2"]], 2)
    with shown(board):
        tells(tmp_path, 0, state="failed", reason="out of luck", ended=103.0)
        tells(tmp_path, 1, state="done", best=2.0, ended=104.0)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == f"sweep of 2 jobs: {tmp_path}"
    ended = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(103.0))
    log = tmp_path / "logs" / "0.log"
    assert lines[2] == f"{ended}  job 0 failed after 0:00:03: out of luck (seed=1); see {log}"
    assert lines[3].endswith("  job 1 done after 0:00:04: best 2  seed=2")
    assert len(lines) == 4


def test_a_job_tells_at_most_once_a_second_and_its_processes_tell_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / STATES / "0.json"
    monkeypatch.delenv(told.FILE, raising=False)
    told.tell(stage="training")  # nobody shows this
    told.begin_telling(file)
    told.tell(stage="training", fraction=0.1)
    assert "stage" not in (told.told(file) or {})  # just told
    monkeypatch.setattr(told, "_last", 0.0)
    told.tell(stage="training", fraction=0.2)
    script = "from genlab.machine.told import tell; tell(fraction=0.3)"
    subprocess.run([sys.executable, "-c", script], check=True)
    content = told.told(file) or {}
    assert (content["state"], content["stage"], content["fraction"]) == ("running", "training", 0.3)
    told.end_telling(state="done", best=1.0)
    assert (told.told(file) or {})["state"] == "done"
    assert told.FILE not in os.environ


@pytest.mark.e2e
@pytest.mark.skipif(not find_spec("hydra_plugins.hydra_joblib_launcher"), reason="genlab[joblib] is missing")
def test_a_sweep_in_a_terminal(tmp_path: Path) -> None:
    sweep = pexpect.spawn(
        sys.executable,
        ["-m", "genlab", "train", "-m", *FAST, "callbacks=minimal", "model.networks.hidden=[8]",
         "model.latent_dim=-1,2", "metrics.memorization=false", "hydra/launcher=cores", "hydra.launcher.n_jobs=2",
         f"paths.output_dir={tmp_path}"],
        env={**os.environ, "TERM": "xterm"}, dimensions=(24, 80), encoding="utf-8", timeout=120,
    )  # fmt: skip
    sweep.expect(r"sweep of 2 jobs: (\S+)\r\n")
    folder = Path(sweep.match.group(1))
    sweep.expect_exact("job 0 failed after")
    sweep.expect_exact("what job n printed")
    sweep.expect(pexpect.EOF)
    sweep.close()
    assert sweep.exitstatus == 2
    assert "at least 1 for these networks" in (folder / "logs" / "0.log").read_text()
    log = (folder / "logs" / "1.log").read_text()
    assert "job 1: " in log
    assert "run folder" in log
    assert "bits/dim" in log
    assert json.loads((folder / "1" / "status.json").read_text())["status"] == "done"
    assert not (folder / STATES).exists()
    assert "Watched" not in (folder / "multirun.yaml").read_text()


@pytest.mark.e2e
@pytest.mark.skipif(not find_spec("hydra_plugins.hydra_joblib_launcher"), reason="genlab[joblib] is missing")
def test_jobs_in_the_process_of_the_sweep_print_as_before(tmp_path: Path) -> None:
    one_at_a_time = ("hydra/launcher=cores", "hydra.launcher.n_jobs=1")
    result = subprocess.run(
        [sys.executable, "-m", "genlab", "train", "-m", "model.latent_dim=-1,-2", *one_at_a_time,
         f"paths.output_dir={tmp_path}"], capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert result.returncode == 2
    assert "2 failed: " in result.stderr
    assert not list(tmp_path.rglob("logs"))
