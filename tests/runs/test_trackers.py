"""MLflow, Aim and Trackio are told everything of a run, once, in one run of theirs; none ever ends a training."""

import csv
import json
import shutil
import signal
import sqlite3
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from genlab.loggers import packages
from genlab.loggers.contents import told_config
from genlab.loggers.store_tracker import StoreTracker
from genlab.runs.folder import find_runs
from support.command import Genlab
from support.forks import in_child
from support.kills import kill_at
from support.small_runs import COMMON, outputs
from support.tracker_stores import READERS, Kept, empty_database

__all__ = ["empty_database"]

VAE = (
    "model=vae/vae", "model.networks.hidden=[16]", *(option for option in COMMON if option != "logger=csv"),
    "dataset.train_size=192", "callbacks.last.every_images=100",
)  # fmt: skip
STEP = "genlab.training.objective.ObjectiveTraining.training_step"
KINDS = [*READERS]
EXTRA = {"mlflow": "MLflow", "aim": "Aim", "trackio": "Trackio", "tensorboard": "TensorBoard"}


@pytest.fixture
def store(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Path:
    """The outputs folder, with an empty database if the tracker takes long to make one."""
    if find_spec(kind) is None:  # Trackio remembers the folder that it is imported with
        pytest.skip(f"{kind} is not installed")
    for name in ("MLFLOW_TRACKING_URI", "TRACKIO_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MLFLOW_DISABLE_TELEMETRY", "true")
    monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / "log"))
    folder = outputs(monkeypatch, tmp_path / "outputs")
    if kind == "mlflow":
        folder.mkdir()
        shutil.copy(request.getfixturevalue("empty_database"), folder / "mlflow.db")
    return folder


def said(tmp_path: Path) -> list[str]:
    return [line for line in (tmp_path / "log").read_text().splitlines() if line.startswith("genlab: ")]


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    """What metrics.csv has of every figure, in order."""
    curves: dict[str, list[tuple[int, float]]] = {}
    with (run / "metrics.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            for name, text in row.items():
                if text and name not in ("seconds", "images_seen"):
                    curves.setdefault(name, []).append((int(row["images_seen"]), float(text)))
    return curves


def assert_complete(kept: Kept, run: Path) -> None:
    """Every figure of metrics.csv, once; the pictures; the final samples and the protocols; the config."""
    assert {name: sorted(points) for name, points in kept.curves.items()} == {
        name: [(step, pytest.approx(value)) for step, value in points] for name, points in logged(run).items()
    }
    final = json.loads((run / "summary.json").read_text())["metrics"]
    assert {kept.curves[name][-1][1] for name in final} == {result["value"] for result in final.values()}
    assert kept.protocols.keys() == final.keys()
    for name, result in final.items():
        assert kept.protocols[name] | result["protocol"] == kept.protocols[name]
    drawn = [int(path.stem) for path in sorted((run / "samples").glob("0*.png"))]
    assert len(drawn) == 3
    assert kept.pictures.keys() == {"samples", "reconstructions", "interpolations"}
    assert {name: sorted(steps) for name, steps in kept.pictures.items()} == dict.fromkeys(kept.pictures, drawn)
    assert sorted(kept.samples) == [f"sample {i}, after {drawn[-1]:,} images" for i in range(4)]
    assert kept.params["model.networks.hidden"] == "[16]"
    assert kept.params["training.optimizer.lr"] == "0.001"
    assert not [key for key in kept.params if key.startswith(("logger", "schedule", "distribution"))]


@pytest.mark.parametrize("kind", KINDS)
def test_a_killed_run_goes_on_in_the_same_run(
    kind: str, store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = ("train", *VAE, f"logger=[csv,{kind}]", "notes=what, it is for")
    assert in_child(given, kill_at(STEP, 10, signal.SIGKILL)) == -signal.SIGKILL
    (run,) = find_runs([store])
    monkeypatch.chdir(tmp_path)
    assert in_child(["train", f"resume={run.path}"]) == 0, (tmp_path / "log").read_text()
    assert not said(tmp_path)
    (kept,) = READERS[kind](store)
    assert_complete(kept, run.path)
    assert kept.params["notes"] == "what, it is for"
    assert kept.status in ("done", "")


@pytest.mark.parametrize("kind", KINDS)
def test_the_jobs_of_a_sweep_are_a_group_and_failures_are_told(kind: str, store: Path, tmp_path: Path) -> None:
    def fail_in_the_second() -> None:
        from genlab.training.objective import ObjectiveTraining

        step, count = ObjectiveTraining.training_step, iter(range(1000))

        def failing(self: ObjectiveTraining, *args: Any) -> Any:
            if next(count) == 8:
                raise RuntimeError("no more\nof this")
            return step(self, *args)

        ObjectiveTraining.training_step = failing  # type: ignore[method-assign]

    short = ("trainer.max_epochs=1", "tags=[mine]", "model.networks.hidden=[16],[4]")
    assert in_child(["train", "-m", *VAE, *short, f"logger={kind}"], fail_in_the_second) == 1
    first, second = sorted(READERS[kind](store), key=lambda kept: kept.params["model.networks.hidden"])
    jobs = list(find_runs([store]))
    assert {first.group, second.group} == {f"{jobs[0].path.parent.parent.name}/{jobs[0].path.parent.name}"}
    assert first.name != second.name
    assert [kept.params["model.networks.hidden"] for kept in (first, second)] == ["[16]", "[4]"]
    assert any("mine" in tag for tag in first.tags)
    assert first.status in ("done", "")  # Trackio has no status, but alerts
    assert second.status == "failed"


@pytest.mark.parametrize("kind", KINDS)
def test_a_store_that_cannot_be_written_ends_no_run(kind: str, store: Path, tmp_path: Path) -> None:
    blocked = tmp_path / "a file"
    blocked.write_text("no folder")
    given = ("train", *VAE, "trainer.max_epochs=1", f"logger={kind}", f"logger.{kind}.store={blocked}")
    assert in_child(given) == 0, (tmp_path / "log").read_text()
    (run,) = find_runs([store])
    assert json.loads((run.path / "status.json").read_text())["status"] == "done"
    (line,) = said(tmp_path)
    assert line.startswith(f"genlab: {EXTRA[kind]} failed (")
    assert "the run goes on without it: metrics.csv has all figures" in line
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.parametrize("kind", ["mlflow"])
@pytest.mark.slow
def test_a_store_that_was_locked_has_everything_in_the_end(kind: str, store: Path, tmp_path: Path) -> None:
    def lock_and_release() -> None:
        """A trap: MLflow's database is locked from a step on, until validation begins after training."""
        from genlab.launching import job
        from genlab.loggers.mlflow import MLflow
        from genlab.training.objective import ObjectiveTraining

        MLflow.between_writes = 0.0
        held = sqlite3.connect(store / "mlflow.db", isolation_level=None)
        step, summarize, count = ObjectiveTraining.training_step, job.summarize, iter(range(1000))

        def locking(self: ObjectiveTraining, *args: Any) -> Any:
            if next(count) == 5:
                held.execute("BEGIN EXCLUSIVE")
            return step(self, *args)

        def releasing(*args: Any) -> Any:
            held.execute("ROLLBACK")
            return summarize(*args)

        ObjectiveTraining.training_step, job.summarize = locking, releasing  # type: ignore[method-assign]

    assert in_child(["train", *VAE, f"logger={kind}"], lock_and_release) == 0
    lost, again = said(tmp_path)
    assert "MLflow failed (" in lost
    assert "locked" in lost
    assert again == "genlab: MLflow is there again, and has been sent all of metrics.csv"
    (run,) = find_runs([store])
    (kept,) = READERS[kind](store)
    assert_complete(kept, run.path)


@pytest.mark.parametrize("kind", EXTRA)
def test_a_package_that_is_missing_is_named_before_a_run_begins(
    kind: str, genlab: Genlab, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packages, "find_spec", lambda name: None if name == kind else find_spec(name))
    result = genlab("train", f"logger={kind}", "model.networks.hidden=[8]")
    assert result.code == 2
    assert result.err.splitlines()[-1] == (
        f"genlab: error: {EXTRA[kind]} is not installed: pip install 'genlab[{kind}]'"
    )
    assert not list(result.outputs.rglob("config.yaml"))


class Memory(StoreTracker):
    """A tracker whose store is a list, which may be out of reach."""

    title = "Memory"
    stores: dict[str, list[tuple[str, int, Any]]] = {}
    reachable = True

    def begin(self, config: dict[str, Any], store: str, known: str | None) -> str:
        self._check()
        self.rows = self.stores.setdefault(store, [])
        return known or "the run"

    def _check(self) -> None:
        if not self.reachable:
            raise ConnectionError("gone\nfor now")

    def written(self) -> dict[str, int]:
        return {name: max(seen for other, seen, _ in self.rows if other == name) for name, _, _ in self.rows}

    def write_figures(self, figures: dict[str, float], images_seen: int) -> None:
        self._check()
        self.rows += [(name, images_seen, value) for name, value in figures.items()]

    def write_picture(self, name: str, picture: Image.Image, caption: str, images_seen: int) -> None:
        self._check()
        self.rows.append((name, images_seen, caption))


def memory_of(tmp_path: Path) -> Memory:
    return Memory(str(tmp_path), str(tmp_path / "store"))


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics.csv").write_text(
        "images_seen,seconds,train/loss,val/nll\n64,0.1,3.0,\n128,0.2,2.0,\n128,0.3,,5.0\n192,0.4,1.0,\n"
    )
    (tmp_path / "samples").mkdir()
    for name in ("0000000128", "interpolations-0000000128", "final", "film"):
        Image.new("L", (4, 4)).save(tmp_path / "samples" / f"{name}.png")
    Memory.stores = {}
    return tmp_path


ALL = [
    ("train/loss", 64, 3.0), ("train/loss", 128, 2.0), ("samples", 128, "after 128 images"),
    ("interpolations", 128, "after 128 images"), ("val/nll", 128, 5.0), ("train/loss", 192, 1.0),
]  # fmt: skip


@pytest.mark.parametrize("had", range(len(ALL) + 1))
def test_a_resumed_run_sends_what_is_lacking_and_nothing_twice(had: int, run_folder: Path) -> None:
    first = memory_of(run_folder)
    first.log_hyperparams({"seed": 0})
    first.rows[:] = ALL[:had]
    memory_of(run_folder).log_hyperparams({"seed": 0})
    assert sorted(first.rows) == sorted(ALL)


def test_a_store_in_another_folder_than_the_present_one_is_found(
    run_folder: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(run_folder)
    (run_folder / "here").mkdir()
    Memory(str(run_folder), "here").log_hyperparams({})
    monkeypatch.chdir(tmp_path_factory.mktemp("elsewhere"))
    Memory(str(run_folder), "here").log_hyperparams({})
    assert list(Memory.stores) == [str(run_folder / "here")]
    Memory(str(run_folder), "there").log_hyperparams({})
    assert len(Memory.stores) == 2


@pytest.mark.parametrize("lost_at", ["begin", "figures", "picture"])
def test_a_failure_is_said_once_and_made_good_at_the_end(
    lost_at: str, run_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: dict[str, Callable[[Memory], None]] = {
        "begin": lambda tracker: tracker.log_hyperparams({"seed": 0}),
        "figures": lambda tracker: tracker.log_metrics({"train/loss": 0.5, "images_seen": 256}, step=256),
        "picture": lambda tracker: tracker.log_picture("samples", Image.new("L", (4, 4)), 256),
    }
    tracker = memory_of(run_folder)
    for name, call in calls.items():
        monkeypatch.setattr(Memory, "reachable", name != lost_at and not tracker.lost)
        call(tracker)
    said = capsys.readouterr().err
    assert said == (
        "genlab: Memory failed (ConnectionError: gone for now), and the run goes on without it: metrics.csv has all "
        "figures\n"
    )
    monkeypatch.setattr(Memory, "reachable", False)
    tracker.close()
    assert tracker.lost
    assert not capsys.readouterr().err
    monkeypatch.setattr(Memory, "reachable", True)
    tracker.close()
    assert capsys.readouterr().err == "genlab: Memory is there again, and has been sent all of metrics.csv\n"
    assert sorted(row for row in tracker.rows if row[1] < 256) == sorted(ALL)


def test_the_config_is_told_without_doubles() -> None:
    config = {
        "seed": 1,
        "schedule": {"warmup": 2},
        "distribution": {"levels": 2},
        "monitor": {"metric": "a"},
        "training": {"schedule": {"warmup": 2}, "optimizer": {"lr": 0.1}},
        "model": {"distribution": {"levels": 3}},
        "logger": {"wandb": {"tags": []}},
        "sampling": {},
    }
    told = told_config(config)
    assert told.keys() == {"seed", "distribution", "monitor", "training", "model", "code"}
    assert told["training"] == config["training"]
