"""A run that diverges goes back to its newest checkpoint with smaller steps, says so, and resumes exactly."""

import json
import signal
from pathlib import Path
from typing import Any

import pytest
import torch

from genlab.runs.checkpoints import read_checkpoint
from genlab.training.rollback import scale_steps
from support.forks import TWO, forked, in_child
from support.small_runs import COMMON, FAMILIES, history, only_run, outputs

ROLLBACK = ("training.on_nan=rollback", "trainer.log_every_n_steps=1")


def breaking(images: int, above: float, only_rank: int | None = None, stop_at: int | None = None) -> Any:
    """Make the loss NaN from a number of images on, as long as steps are larger than a share; perhaps kill the run."""

    def trap() -> None:
        import os

        from genlab.training.adversarial import AdversarialTraining
        from genlab.training.objective import ObjectiveTraining

        def broken(cls: Any) -> None:
            original = cls.record

            def record(self: Any, x: torch.Tensor, metrics: dict[str, torch.Tensor], later: Any = None) -> None:
                if stop_at is not None and self.rollbacks and self.images_seen >= stop_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                here = only_rank is None or self.trainer.global_rank == only_rank
                if here and self.images_seen >= images and self.step_scale > above:
                    metrics = {name: value * float("nan") for name, value in metrics.items()}
                original(self, x, metrics, later)

            cls.record = record

        broken(ObjectiveTraining)
        broken(AdversarialTraining)
        if only_rank is not None:
            forked()

    return trap


def rows(run: Path) -> list[dict[str, Any]]:
    return [{k: v for k, v in row.items() if "second" not in k} for row in history(run)]


def weights(run: Path) -> dict[str, Any]:
    checkpoint = read_checkpoint(run / "checkpoints" / "last.ckpt")
    return {**checkpoint["state_dict"], "rollbacks": checkpoint["progress"]["rollbacks"]}


def same(one: dict[str, Any], two: dict[str, Any]) -> bool:
    return one.keys() == two.keys() and all(
        torch.equal(a, two[key]) if isinstance(a, torch.Tensor) else a == two[key] for key, a in one.items()
    )


@pytest.mark.parametrize("model", ["vae/vae", pytest.param("gan/dcgan", marks=pytest.mark.slow)])
def test_a_killed_run_that_had_gone_back_ends_as_one_that_was_not_killed(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["train", f"model={model}", *COMMON, *FAMILIES[model], *ROLLBACK]
    # The second of three epochs of 12 batches of 32; steps of a quarter go through.
    at, above = 32 * 17, 0.3
    monkeypatch.setenv("GENLAB_TEST_LOG", str(log := tmp_path / "log"))
    whole = outputs(monkeypatch, tmp_path / "whole")
    assert in_child(arguments, breaking(at, above)) == 0
    run = only_run(whole)
    said = " ".join(log.read_text().split())
    assert "images with steps of 0.5 times their size (rollback 1 of 3)" in said
    assert "images with steps of 0.25 times their size (rollback 2 of 3)" in said
    assert "rollbacks 2: the run diverged and went on from a checkpoint with smaller steps" in said
    assert json.loads((run / "summary.json").read_text())["rollbacks"] == 2
    figures = rows(run)
    assert [row["rollbacks"] for row in figures if row.get("rollbacks")] == ["2"]  # rows of what was given up are gone
    rates = [float(row["train/lr"]) for row in figures if row.get("train/lr")]
    assert rates[-1] < 0.1 * rates[0]  # a quarter of what the cosine leaves of them
    seen = [int(row["images_seen"]) for row in figures]
    assert seen == sorted(seen)
    # Killed before the next checkpoint, and after it.
    for place in (32 * 16, 32 * 30):
        cut = outputs(monkeypatch, tmp_path / f"cut{place}")
        assert in_child(arguments, breaking(at, above, stop_at=place)) == -signal.SIGKILL
        again = only_run(cut)
        assert json.loads((again / "status.json").read_text())["rollbacks"] >= 1
        assert in_child(["train", f"resume={again}"], breaking(at, above)) == 0
        assert same(weights(again), weights(run))
        assert rows(again) == figures
        assert json.loads((again / "summary.json").read_text())["rollbacks"] == 2


def test_a_run_goes_back_a_limited_number_of_times(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outputs(monkeypatch, tmp_path)
    monkeypatch.setenv("GENLAB_TEST_LOG", str(log := tmp_path / "log"))
    arguments = ["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"], *ROLLBACK, "training.max_rollbacks=2"]
    assert in_child(arguments, breaking(64, 0.0)) == 2  # within the first epoch: there is no checkpoint
    said = " ".join(log.read_text().split())
    assert said.count("going on from the beginning") == 2
    assert "nan, though the run went back 2 times to smaller steps, which is training.max_rollbacks, after" in said
    status = json.loads((only_run(folder) / "status.json").read_text())
    assert status["status"] == "failed"
    assert status["rollbacks"] == 2


def test_a_run_that_failed_may_be_resumed_with_rollback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outputs(monkeypatch, tmp_path)
    arguments = ["train", "model=vae/vae", *COMMON, *FAMILIES["vae/vae"], "trainer.log_every_n_steps=1"]
    assert in_child(arguments, breaking(32 * 17, 0.6)) == 2
    run = only_run(folder)
    assert "rollbacks" not in json.loads((run / "status.json").read_text())
    assert in_child(["train", f"resume={run}", "training.on_nan=rollback"], breaking(32 * 17, 0.6)) == 0
    assert json.loads((run / "summary.json").read_text())["rollbacks"] == 1


def test_all_processes_go_back_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outputs(monkeypatch, tmp_path)
    arguments = ["train", *TWO, "model=vae/vae", *COMMON, *FAMILIES["vae/vae"], *ROLLBACK]
    assert in_child(arguments, breaking(32 * 17, 0.6, only_rank=1)) == 0
    run = only_run(folder)
    summary = json.loads((run / "summary.json").read_text())
    assert summary["rollbacks"] == 1
    assert summary["environment"]["devices"] == 2
    assert summary["images_seen"] == 3 * 12 * 32


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
def test_a_step_is_smaller_and_the_rate_stays(kind: str) -> None:
    scales = [1.0, 0.25, 1.0]
    weight = torch.nn.Parameter(torch.zeros(3))
    optimizer = getattr(torch.optim, kind)([weight], lr=0.5)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, 0.1)
    scale_steps(optimizer, lambda: scales[len(moved)])
    weight.grad = torch.ones(3)
    moved: list[float] = []
    while len(moved) < len(scales):
        before = weight.detach().clone()
        optimizer.step()
        moved.append(float((before - weight.detach()).mean()))
        assert optimizer.param_groups[0]["lr"] == pytest.approx(schedule.get_last_lr()[0])
        schedule.step()
    assert moved == pytest.approx([0.5, 0.05 * 0.25, 0.005], rel=1e-4)
