"""The summary of a run that was killed says of its course what that of the unbroken run says."""

import csv
import json
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from genlab.runs.checkpoints import read_checkpoint, write_checkpoint
from support.forks import in_child
from support.kills import kill_at
from support.small_runs import COMMON, FAMILIES, only_run, outputs

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

STEP = "genlab.training.objective.ObjectiveTraining.training_step"
PAUSE = 0.08  # seconds that a step takes at least: of 36 steps, or about 3 seconds
COMMAND = ["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"]]


def slow(then: Callable[[], None] | None = None) -> Callable[[], None]:
    """A trap: steps that take a known time, and perhaps a kill."""

    def set_trap() -> None:
        from genlab.training.objective import ObjectiveTraining

        original = ObjectiveTraining.training_step

        def step(self: Any, *args: Any) -> Any:
            time.sleep(PAUSE)
            return original(self, *args)

        ObjectiveTraining.training_step = step  # type: ignore[method-assign, assignment]
        if then is not None:
            then()

    return set_trap


def summary_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "summary.json").read_text())
    return found


def rows_of(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as apart:
        outputs(apart, folder)
        assert in_child(COMMAND, slow()) == 0
    return only_run(folder)


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param([kill_at("genlab.metrics.measures.fid.FID.__call__", 1)] * 2, marks=pytest.mark.slow),
        [kill_at(STEP, 20), kill_at(STEP, 16), kill_at("genlab.metrics.measures.fid.FID.__call__", 1)],
    ],
    ids=["in the final evaluation", "in training too"],
)
def test_after_kills_the_summary_is_that_of_the_unbroken_run(
    kills: list[Callable[[], None]], whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = outputs(monkeypatch, tmp_path)
    command = COMMAND
    for kill in kills:
        assert in_child(command, slow(kill)) == -signal.SIGKILL
        command = ["train", f"resume={only_run(cut)}"]
    assert in_child(command, slow()) == 0
    run = only_run(cut)
    found, unbroken = summary_of(run), summary_of(whole)
    assert found["epochs"] == unbroken["epochs"] == 3
    trained = max(float(row["seconds"]) for row in rows_of(run) if row["train/loss"])
    assert 36 * PAUSE < trained <= found["wall_seconds"] + 0.1
    # No more than starting again takes: two processes took steps after the first.
    assert found["wall_seconds"] < trained + 2 * unbroken["wall_seconds"]
    # A step takes most of its time asleep, so that the rates agree.
    assert found["images_per_second"] == pytest.approx(unbroken["images_per_second"], rel=0.35)
    rates = [float(row["train/images_per_second"]) for row in rows_of(run) if row["train/images_per_second"]]
    assert found["images_per_second"] == pytest.approx(rates[-1])


@pytest.mark.slow
def test_a_checkpoint_of_an_earlier_version_has_the_rows_to_tell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = outputs(monkeypatch, tmp_path)
    kill = kill_at("genlab.metrics.measures.fid.FID.__call__", 1)
    assert in_child(COMMAND, slow(kill)) == -signal.SIGKILL
    run = only_run(folder)
    path = run / "checkpoints" / "last.ckpt"
    checkpoint = read_checkpoint(path)
    for name in ("Stopwatch", "Throughput"):
        del checkpoint["callbacks"][name]
    write_checkpoint(checkpoint, path)
    status = json.loads((run / "status.json").read_text())
    del status["training"]
    (run / "status.json").write_text(json.dumps(status))
    assert in_child(["train", f"resume={run}"]) == 0
    found = summary_of(run)
    assert found["epochs"] == 3
    assert found["wall_seconds"] > 36 * PAUSE
    rates = [float(row["train/images_per_second"]) for row in rows_of(run) if row["train/images_per_second"]]
    assert found["images_per_second"] == rates[-1]


def test_a_damaged_newest_checkpoint_of_a_trained_run_is_trained_again(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one before it is of an earlier epoch, which is not what is to be measured."""
    folder = outputs(monkeypatch, tmp_path)
    kill = kill_at("genlab.metrics.measures.fid.FID.__call__", 1)
    assert in_child(COMMAND, kill) == -signal.SIGKILL
    run = only_run(folder)
    (run / "checkpoints" / "last.ckpt").write_bytes(b"")
    assert in_child(["train", f"resume={run}"]) == 0
    assert summary_of(run)["images_seen"] == summary_of(whole)["images_seen"]
    assert read_checkpoint(run / "checkpoints" / "last.ckpt")["progress"]["images_seen"] == 3 * 12 * 32
