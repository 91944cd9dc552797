"""Sweeps: a folder for every job, a failure that ends only itself, and a second launch that does what is missing."""

import json
import os
import re
import signal
from pathlib import Path

import pytest

from support.command import Genlab
from support.forks import in_child
from support.kills import kill_at
from support.small_runs import outputs

TINY = (
    "model.networks.hidden=[8]", "dataset.train_size=64", "trainer.max_epochs=1", "metrics.num_samples=8",
    "metrics.num_test=8", "metrics.num_shown=2", "metrics.memorization=false", "callbacks=minimal", "logger=csv",
)  # fmt: skip
TWELVE = ("train", "-m", *TINY, "seed=1,2,3,4", "model.latent_dim=2,3,4")


def statuses(folder: Path) -> dict[str, dict]:  # type: ignore[type-arg]
    return {p.parent.name: json.loads(p.read_text()) for p in sorted(folder.rglob("status.json"))}


@pytest.mark.parametrize("num", [6, pytest.param(20, marks=pytest.mark.slow)])
def test_launches_in_one_second_are_as_many_whole_runs(
    num: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = outputs(monkeypatch, tmp_path)
    children = []
    for _ in range(num):
        pid = os.fork()
        if pid == 0:
            os._exit(in_child(["train", *TINY]))
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0] * num
    runs = [path.parent for path in folder.rglob("config.yaml")]
    assert len(runs) == num
    for run in runs:
        assert json.loads((run / "status.json").read_text())["status"] == "done"
        for name in ("summary.json", "metrics.csv", "checkpoints/best.ckpt", "checkpoints/last.ckpt"):
            assert (run / name).stat().st_size > 0
        assert str(run) in (run / "config.yaml").read_text()


def test_a_sweep_killed_in_the_middle_runs_exactly_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab
) -> None:
    folder = outputs(monkeypatch, tmp_path)
    # In the sixth job, after its training began.
    assert in_child(TWELVE, kill_at("genlab.callbacks.last_checkpoint.LastCheckpoint.on_train_epoch_end", 6)) == -9
    before = statuses(folder)
    assert [status["status"] for status in before.values()] == ["done"] * 5 + ["running"]
    (sweep,) = {p.parents[1] for p in folder.rglob("status.json")}
    result = genlab(*TWELVE, f"sweep.resume={sweep}")
    assert result.code == 0, result.err
    after = statuses(folder)
    assert len(after) == 12
    assert {p.parents[1] for p in folder.rglob("status.json")} == {sweep}
    assert {status["status"] for status in after.values()} == {"done"}
    for job, status in before.items():
        if status["status"] == "done":
            assert after[job] == status  # not touched
        else:
            assert len(after[job]["resumed"]) == 1
    assert f"12 done: {sweep}" in result.err
    # Every pair of seed and latents once.
    assert len({tuple(status["overrides"]) for status in after.values()}) == 12
    # Again, there is nothing left to do.
    assert genlab(*TWELVE, f"sweep.resume={sweep}").code == 0
    assert statuses(folder) == after
    # Another sweep does not go into that folder.
    other = genlab("train", "-m", *TINY, "seed=5,6", f"sweep.resume={sweep}")
    assert other.code != 0


def test_a_job_that_fails_leaves_the_others_and_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / "log"))
    folder = outputs(monkeypatch, tmp_path / "outputs")

    def trap() -> None:
        from genlab.models.vae.vae import VAE

        original = VAE.loss

        def broken(self: VAE, *batch: object):  # type: ignore[no-untyped-def]
            if self.latent_dim == 3:
                raise RuntimeError("out of luck")
            return original(self, *batch)  # type: ignore[arg-type]

        VAE.loss = broken  # type: ignore[method-assign, assignment]

    arguments = ("train", "-m", *TINY, "seed=1", "model.latent_dim=" + ",".join(map(str, range(2, 14))))
    assert in_child(arguments, trap) == 1
    found = statuses(folder)
    assert sorted(status["status"] for status in found.values()) == ["done"] * 11 + ["failed"]
    assert found["1"]["reason"] == "RuntimeError: out of luck"
    log = (tmp_path / "log").read_text()
    table = " ".join(re.sub("[│┃]", " ", log).split())
    assert "failed: RuntimeError: out of luck" in table
    assert "11 done, 1 failed" in table
    assert "the same command with sweep.resume=" in table
    # Launched again without the fault, the failed one is done.
    (sweep,) = {p.parents[1] for p in folder.rglob("status.json")}
    assert in_child([*arguments, f"sweep.resume={sweep}"]) == 0
    assert {status["status"] for status in statuses(folder).values()} == {"done"}


def test_a_job_whose_config_is_wrong_is_in_the_table(genlab: Genlab) -> None:
    arguments = ("train", "-m", *TINY, "training.ema_decay=0.5,2.0,0.9")
    for more in ((), None):
        sweep = {p.parents[1] for p in genlab("--version").outputs.rglob("status.json")}
        result = genlab(*arguments, *(() if more is not None else [f"sweep.resume={sweep.pop()}"]))
        assert result.code == 2
        assert "ema_decay=2.0: expected a number in [0, 1)" in result.err
        found = statuses(result.outputs)
        assert {job: status["status"] for job, status in found.items()} == {"0": "done", "1": "failed", "2": "done"}
        assert "2 done, 1 failed" in result.err


def test_a_signal_ends_the_sweep_and_it_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outputs(monkeypatch, tmp_path)
    stop = kill_at("genlab.training.objective.ObjectiveTraining.training_step", 4, signal.SIGTERM)
    assert in_child(TWELVE, stop) == 128 + signal.SIGTERM
    assert [status["status"] for status in statuses(folder).values()] == ["done"] * 3 + ["interrupted"]
    (sweep,) = {p.parents[1] for p in folder.rglob("status.json")}
    assert in_child([*TWELVE, f"sweep.resume={sweep}"]) == 0
    assert [status["status"] for status in statuses(folder).values()] == ["done"] * 12
