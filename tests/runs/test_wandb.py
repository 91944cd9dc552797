"""What W&B is told, offline and online: everything, once, in one run, whatever happens in between."""

import csv
import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from genlab.runs.config import flat
from genlab.runs.folder import find_runs
from support.forks import TWO, forked, in_child
from support.kills import kill_at
from support.small_runs import COMMON, outputs
from support.wandb_files import WANDB, Metric, WandbRun, read_folder, read_run
from support.wandb_server import Network, WandbServer

VAE = ("model=vae/vae", "model.networks.hidden=[16]", *(option for option in COMMON if option != "logger=csv"))
STEP = "genlab.training.objective.ObjectiveTraining.training_step"
PARTS = ("train/", "val/", "test/", "samples.filenames")
LAST = 3 * 12 * 32  # images seen at the end
# A connection that is refused, and one that is never answered, which takes as long as it is waited for.
LOSSES = [Network.CUT, pytest.param(Network.SILENT, marks=pytest.mark.slow)]


@pytest.fixture(autouse=True)
def _offline_and_apart(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of the user's W&B is read or written, and nothing is reported to anyone."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    for place in ("CONFIG_DIR", "CACHE_DIR", "DATA_DIR"):
        monkeypatch.setenv(f"WANDB_{place}", str(tmp_path / "home" / place))


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbServer]:
    """The environment of a user who is logged in to a server on this machine; W&B tells it the news at once."""
    server = WandbServer()
    monkeypatch.setenv("WANDB_MODE", "online")
    monkeypatch.setenv("WANDB_BASE_URL", server.url)
    monkeypatch.setenv("WANDB_API_KEY", "0123456789" * 4)
    monkeypatch.setenv("WANDB__FILE_STREAM_TRANSMIT_INTERVAL", "0.1")
    for kind in ("FILE_STREAM", "GRAPHQL", "FILE_TRANSFER"):
        monkeypatch.setenv(f"WANDB__{kind}_RETRY_WAIT_MIN_SECONDS", "0.1")
        monkeypatch.setenv(f"WANDB__{kind}_RETRY_WAIT_MAX_SECONDS", "0.5")
    yield server
    server.close()
    assert not server.unknown


def run_in(outputs: Path) -> Path:
    """The one run folder; an online run has a config.yaml of W&B's own."""
    (status,) = outputs.rglob("status.json")
    return status.parent


def logged(run: Path) -> dict[tuple[str, int], float]:
    """What metrics.csv has: of every figure and images seen, the last value."""
    with (run / "metrics.csv").open(newline="") as file:
        return {
            (name, int(row["images_seen"])): float(text)
            for row in csv.DictReader(file)
            for name, text in row.items()
            if text and name not in ("seconds", "images_seen")
        }


def told(wandb: WandbRun, run: Path) -> dict[tuple[str, int], float]:
    """The same, of what W&B has."""
    names = {name for name, _ in logged(run)}
    return {(name, int(x)): y for name in names for x, y in wandb.curve(name)}


def assert_complete(wandb: WandbRun, run: Path) -> None:
    """Every figure, once, over images seen; the pictures; and the final figures with their protocols."""
    assert told(wandb, run) == logged(run)
    assert wandb.steps == sorted(set(wandb.steps))
    points = [(name, row["images_seen"]) for row in wandb.history for name in row if name.startswith(PARTS)]
    assert len(points) == len(set(points))
    assert wandb.history[-1]["images_seen"] == LAST
    pictures = [int(path.stem) for path in sorted((run / "samples").glob("0*.png"))]
    assert [x for x, _ in wandb.curve("samples.filenames")] == pictures
    final = json.loads((run / "summary.json").read_text())["metrics"]
    assert {name: wandb.summary[name] for name in final} == {name: result["value"] for name, result in final.items()}
    protocols = json.loads(wandb.summary["protocols"])
    assert protocols.keys() == final.keys()
    for name, result in final.items():
        assert result["protocol"]
        assert protocols[name] | result["protocol"] == protocols[name]
    assert wandb.exit_code == 0


def assert_same(wandb: WandbRun, other: WandbRun) -> None:
    """In all but times, speed and the number of processes."""
    facts = ("id", "name", "project", "group", "job_type", "notes", "config", "metrics", "exit_code")
    for name in facts:
        assert getattr(wandb, name) == getattr(other, name), name
    # An online run's tables go to the server at once, and not through the file.
    parts, others = ([one for one in run.artifacts if one.type != "run_table"] for run in (wandb, other))
    assert parts == others
    assert sorted(wandb.tags) == sorted(other.tags)
    assert [without_times(row) for row in wandb.history] == [without_times(row) for row in other.history]
    assert without_times(wandb.summary) == without_times(other.summary)


def without_times(row: dict[str, object]) -> dict[str, object]:
    return {key: value for key, value in row.items() if key not in ("_runtime", "_timestamp", "_wandb.runtime")}


def sync(folder: Path) -> None:
    """``wandb sync`` of all that a run folder has."""
    files = sorted(
        {str(path.parent) for path in (folder / "wandb").glob("*run-*/*.wandb") if path.parent.name[0] != "l"}
    )
    subprocess.run([WANDB, "sync", "--include-online", "--include-synced", *files], check=True, timeout=120)


# -- offline -----------------------------------------------------------------------------------------------------------


def test_all_of_a_run_is_in_its_offline_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE, "notes=to try, once"]) == 0
    run = run_in(folder)
    wandb = read_folder(run)
    assert_complete(wandb, run)
    assert wandb.parts == 1
    assert wandb.metrics["images_seen"] == Metric()
    assert wandb.metrics["*"].step == "images_seen"
    assert wandb.config["seed"] == 0
    assert not [name for name in wandb.summary if name.startswith(("published/", "verdict/", "protocol/"))]
    assert len({name.partition(".")[0] for name in wandb.summary}) < 80  # a picture or a table is one key of W&B's
    assert wandb.notes == "to try, once"
    assert wandb.summary["final_samples.nrows"] == 4
    (table,) = run.glob(f"wandb/offline-run-*/files/{wandb.summary['final_samples.path']}")
    rows = json.loads(table.read_text())["data"]
    assert [caption for caption, _ in rows] == [f"sample {i}, after {LAST:,} images" for i in range(4)]
    for image in wandb.images["samples"]:
        (copy,) = run.glob(f"wandb/offline-run-*/files/{image.path}")
        assert copy.read_bytes().startswith(b"\x89PNG")


def test_published_figures_and_verdicts_are_in_the_summary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outputs(monkeypatch, tmp_path / "outputs")
    near = "{nll: {value: 1000, why: w, side: worse}, bits_per_dim: {value: 0.1, why: w}}"
    block = f"{{paper: A, figures: {{nll: 60, bits_per_dim: 99}}, read: there, protocol: alike, tolerance: {near}}}"
    assert in_child(["train", *VAE, f"reference={block}"]) == 0
    summary = read_folder(run_in(folder)).summary
    assert {name: summary[f"published/{name}"] for name in ("nll", "bits_per_dim")} == {"nll": 60, "bits_per_dim": 99}
    assert summary["verdict/nll"] == "within, 1 of 3 seeds"
    assert summary["verdict/bits_per_dim"] == "better"


def test_a_sweeps_runs_are_found_sorted_and_compared_without_a_click(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names, group, job type, tags, the config without doubles, the code's version, pictures, speed, best values."""
    folder = outputs(monkeypatch, tmp_path / "outputs")
    short = ("trainer.max_epochs=2", "tags=[mine]", "logger.wandb.checkpoints=true")
    assert in_child(["train", "-m", *VAE, *short, "seed=1,2"]) == 0
    first, second = find_runs([folder])
    for run, seed in ((first, 1), (second, 2)):
        wandb = read_folder(run.path)
        assert wandb.project == "genlab"
        assert wandb.name == f"vae-digits-{run.path.name}"
        assert wandb.group == f"sweep/{run.path.parent.name}"
        assert wandb.job_type == "vae"
        assert sorted(wandb.tags) == ["digits", "mine", "vae/vae"]
        saved = yaml.safe_load((run.path / "config.yaml").read_text())
        left_out = {"logger", "schedule", "distribution", "resume", "sweep", "sampling"}  # the last is empty
        assert saved.keys() - wandb.config.keys() == left_out
        assert flat(wandb.config) | flat({key: saved[key] for key in saved.keys() - left_out}) == flat(wandb.config)
        assert (wandb.config["seed"], wandb.config["run_dir"]) == (seed, str(run.path))
        assert wandb.config["code"].keys() == {"commit", "version"}
        steps = {name: [image.step for image in images] for name, images in wandb.images.items()}
        assert steps == {name: [384, 768] for name in ("samples", "reconstructions", "interpolations")}
        for name in ("train/images_per_second", "train/peak_memory_mb", "val/bits_per_dim", "test/fid"):
            assert wandb.curve(name), name
        bits = [y for _, y in wandb.curve("val/bits_per_dim")]
        assert wandb.summary["best/val/bits_per_dim"] == min(bits)
        assert sorted(artifact.type for artifact in wandb.artifacts) == ["model", "run_table"]


def test_a_failure_is_an_alert_that_is_sent_with_the_offline_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        from genlab.training.objective import ObjectiveTraining

        def training_step(*_: Any, **__: Any) -> None:
            raise RuntimeError("the reason\nof it")

        ObjectiveTraining.training_step = training_step  # type: ignore[method-assign]

    monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / "log"))
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE], fail) == 1
    wandb = read_folder(run_in(folder))
    assert wandb.alerts == [(f"{wandb.name} failed", "RuntimeError: the reason")]
    assert wandb.exit_code == 1
    assert "genlab: W&B" not in (tmp_path / "log").read_text()


def kill_once_written(call: int, written: int) -> Callable[[], None]:
    """A trap: the process is killed at a training step, when W&B's file has what was logged up to some images seen."""

    def set_trap() -> None:
        from genlab.training.objective import ObjectiveTraining

        original, count = ObjectiveTraining.training_step, iter(range(1, 10**6))

        def trapped(self: ObjectiveTraining, *args: Any, **kwargs: Any) -> Any:
            if next(count) == call:
                (file,) = Path(os.environ["GENLAB_OUTPUTS"]).glob("*/*/wandb/*run-2*/*.wandb")
                wait_until(lambda: written in read_run(file).steps)
                os.kill(os.getpid(), signal.SIGKILL)
            return original(self, *args, **kwargs)

        ObjectiveTraining.training_step = trapped  # type: ignore[method-assign]

    return set_trap


def wait_until(condition: Callable[[], bool], seconds: float = 60) -> None:
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise TimeoutError
        time.sleep(0.1)


# With checkpoints of 160, 320, 384, 480, 640, 768 and 896 images and rows of every 64: W&B keeps a row back until the
# next one, as more may come to it.
@pytest.mark.parametrize(
    ("call", "written"),
    [
        pytest.param(24, 640, id="the row of the checkpoint was written", marks=pytest.mark.slow),
        pytest.param(29, 832, id="the row of the checkpoint was not written"),
        pytest.param(25, 704, id="the row of a validation was not written"),
        pytest.param(28, 768, id="the row of a validation was written", marks=pytest.mark.slow),
    ],
)
def test_a_killed_run_goes_on_in_the_same_wandb_run(
    call: int, written: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB__TRANSACTION_LOG_FLUSH_INTERVAL", "0.1")
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE], kill_once_written(call, written)) == -signal.SIGKILL
    run = run_in(folder)
    assert in_child(["train", f"resume={run}"]) == 0
    wandb = read_folder(run)
    assert wandb.parts == 2
    assert not wandb.repeated
    assert_complete(wandb, run)


def test_a_run_that_was_asked_to_stop_goes_on_in_the_same_wandb_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE], kill_at(STEP, 20, signal.SIGTERM)) == 143
    run = run_in(folder)
    assert in_child(["train", f"resume={run}"]) == 0
    wandb = read_folder(run)
    assert wandb.parts == 2
    assert not wandb.repeated
    assert_complete(wandb, run)


def test_two_processes_are_one_wandb_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE, *TWO], forked) == 0
    run = run_in(folder)
    wandb = read_folder(run)
    assert_complete(wandb, run)
    assert wandb.parts == 1


# -- online ------------------------------------------------------------------------------------------------------------


def network_at(server: WandbServer, **states: Network) -> Callable[[], None]:
    """A trap: from a training step on, the network is so; when it is lost, the step waits until W&B has noticed."""

    def set_trap() -> None:
        from genlab.training.objective import ObjectiveTraining

        original, count = ObjectiveTraining.training_step, iter(range(1, 10**6))
        at = {int(call.removeprefix("step")): state for call, state in states.items()}

        def trapped(self: ObjectiveTraining, *args: Any, **kwargs: Any) -> Any:
            if (state := at.get(next(count))) is not None:
                server.network = state
                if state is not Network.UP:
                    server.wait_for_loss()
            return original(self, *args, **kwargs)

        ObjectiveTraining.training_step = trapped  # type: ignore[method-assign]

    return set_trap


def test_the_server_is_told_what_the_file_has(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE]) == 0
    run = run_in(folder)
    file = read_folder(run)
    assert list(server.runs) == [file.id]
    wandb = server.run(file.id)
    assert_complete(wandb, run)
    assert_same(wandb, file)
    assert [found.path for found in find_runs([folder])] == [run]  # W&B's config.yaml makes no run folder
    for images in wandb.images.values():
        for image in images:
            (local,) = run.glob(f"wandb/run-*/files/{image.path}")
            assert server.runs[file.id].files[image.path] == local.read_bytes()


def test_a_run_of_no_network_is_sent_later(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_MODE", "offline")
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE]) == 0
    assert not server.requests
    sync(run := run_in(folder))
    file = read_folder(run)
    assert_complete(server.run(file.id), run)
    assert_same(server.run(file.id), file)


def test_a_resumed_run_goes_on_in_the_same_run_of_the_server(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE], kill_at(STEP, 20, signal.SIGTERM)) == 143
    run = run_in(folder)
    (name,) = server.runs
    assert server.run(name).exit_code
    assert in_child(["train", f"resume={run}"]) == 0
    assert list(server.runs) == [name]
    assert server.run(name).parts == 2
    assert_complete(server.run(name), run)


def test_a_killed_run_goes_on_in_the_same_run_of_the_server(
    server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB__TRANSACTION_LOG_FLUSH_INTERVAL", "0.1")
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE], kill_once_written(25, 704)) == -signal.SIGKILL
    run = run_in(folder)
    (name,) = server.runs
    assert in_child(["train", f"resume={run}"]) == 0
    assert list(server.runs) == [name]
    assert_complete(server.run(name), run)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_network_that_comes_back_costs_nothing(
    loss: Network, server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB__FILE_STREAM_TIMEOUT_SECONDS", "2")
    monkeypatch.setenv("WANDB__GRAPHQL_TIMEOUT_SECONDS", "2")
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE], network_at(server, step8=loss, step30=Network.UP)) == 0
    run = run_in(folder)
    file = read_folder(run)
    assert_complete(server.run(file.id), run)
    assert_same(server.run(file.id), file)


@pytest.mark.parametrize("loss", LOSSES)
def test_a_network_that_is_gone_ends_no_run(
    loss: Network, server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_FINISH_TIMEOUT", "2")
    monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / "log"))
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE], network_at(server, step8=loss)) == 0
    run = run_in(folder)
    assert json.loads((run / "status.json").read_text())["status"] == "done"
    file = read_folder(run)
    assert_complete(file, run)
    assert server.run(file.id).exit_code is None
    (folder_to_send,) = re.findall(r"genlab: W&B was .* wandb sync (.*)", (tmp_path / "log").read_text())
    assert list(Path(folder_to_send).glob("run-*.wandb"))
    # Nothing is lost: it is sent when there is a network again.
    server.network = Network.UP
    sync(run)
    assert_complete(server.run(file.id), run)
    assert_same(server.run(file.id), file)


@pytest.mark.parametrize("loss", LOSSES)
def test_without_network_from_the_start_a_run_is_offline(
    loss: Network, server: WandbServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_INIT_TIMEOUT", "2")
    monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / "log"))
    server.network = loss
    folder = outputs(monkeypatch, tmp_path / "outputs")
    assert in_child(["train", *VAE]) == 0
    run = run_in(folder)
    (line,) = [line for line in (tmp_path / "log").read_text().splitlines() if "W&B" in line and "offline" in line]
    assert "wandb sync" in line
    assert list(run.glob("wandb/offline-run-*"))
    server.network = Network.UP
    sync(run)
    file = read_folder(run)
    assert_complete(file, run)
    assert_same(server.run(file.id), file)
