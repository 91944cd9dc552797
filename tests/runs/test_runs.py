"""The run folder: claimed once, written whole, found again."""

import csv
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from genlab.composition.resolvers import run_name, unique_name
from genlab.errors import InputError
from genlab.loggers.metrics_csv import MetricsCSV
from genlab.machine.files import write_atomically
from genlab.pictures.grid import grid
from genlab.runs.folder import RunFolder, find_runs


def test_many_who_claim_one_name_get_folders_of_their_own(tmp_path: Path) -> None:
    with ThreadPoolExecutor(16) as pool:
        folders = list(pool.map(lambda _: RunFolder.claim(tmp_path / "a" / "run"), range(40)))
    assert len({folder.path for folder in folders}) == 40
    assert all(folder.samples.is_dir() and folder.checkpoints.is_dir() for folder in folders)
    assert len({unique_name() for _ in range(100)}) == 100


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "summary.json"
    write_atomically(path, "old")

    def fails(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr("os.replace", fails)
    with pytest.raises(OSError, match="disk full"):
        write_atomically(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["summary.json"]


def test_status_keeps_its_start_and_says_why_it_failed(tmp_path: Path) -> None:
    folder = RunFolder.claim(tmp_path / "run")
    folder.set_status("running", command="genlab train")
    started = folder.read_json("status.json")["started"]
    folder.set_status("failed", reason="out of memory")
    status = folder.read_json("status.json")
    assert status["started"] == started
    assert (status["status"], status["reason"]) == ("failed", "out of memory")


def test_a_folder_above_runs_names_them(tmp_path: Path) -> None:
    run = RunFolder.claim(tmp_path / "a" / "1")
    (run.path / "config.yaml").write_text("{}")
    assert [found.path for found in find_runs([tmp_path])] == [run.path]
    with pytest.raises(InputError, match=f"it holds the runs {run.path}"):
        RunFolder.open(tmp_path)


def test_run_names() -> None:
    assert run_name(None, "vae/vae", "mnist") == "vae-mnist"
    assert run_name("mnist/vae", "vae/vae", "mnist") == "mnist-vae"


def test_metrics_grow_columns_and_survive_a_second_process(tmp_path: Path) -> None:
    path = tmp_path / "metrics.csv"
    first = MetricsCSV(str(path))
    first.log_metrics({"images_seen": 10, "train/loss": 1.5})
    first.log_metrics({"images_seen": 20, "val/nll": 3.0})
    second = MetricsCSV(str(path))
    second.log_metrics({"images_seen": 30, "train/loss": 1.0})
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["images_seen"] for row in rows] == ["10", "20", "30"]
    assert [row["train/loss"] for row in rows] == ["1.5", "", "1.0"]
    assert [row["val/nll"] for row in rows] == ["", "3.0", ""]


@pytest.mark.parametrize("shape", [(1, 8, 8), (3, 32, 32), (2, 5, 7), (1, 64, 40)])
def test_grids_show_every_image(shape: tuple[int, int, int]) -> None:
    picture = grid(torch.rand(6, *shape), columns=3)
    factor = max(1, -(-32 // min(shape[1:])))
    assert picture.size == (3 * (factor * shape[2] + 2) + 2, 2 * (factor * shape[1] + 2) + 2)
    white = grid(torch.ones(1, *shape))
    assert white.getpixel((5, 5)) == (255, 255, 255)
