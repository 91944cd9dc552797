"""Runs are found wherever they lie, in the order a person counts in, and nothing else is taken for one."""

from pathlib import Path

from genlab.runs.folder import find_runs


def test_runs_are_found_in_order_and_not_within_each_other(tmp_path: Path) -> None:
    for name in ("sweep/10", "sweep/9", "sweep/1", "alone", "sweep/1/wandb/run-1/files"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "config.yaml").touch()
    (tmp_path / "empty").mkdir()
    found = [str(run.path.relative_to(tmp_path)) for run in find_runs([tmp_path])]
    assert found == ["alone", "sweep/1", "sweep/9", "sweep/10"]
    assert [run.path for run in find_runs([tmp_path / "sweep" / "9"])] == [tmp_path / "sweep" / "9"]
    assert not list(find_runs([tmp_path / "empty", tmp_path / "nothing"]))
