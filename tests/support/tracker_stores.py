"""What a tracker's store holds, read back with the tracker's own library."""

import json
import os
import re
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

# Trackio opens one folder in a process.
TRACKIO = """
import json
import trackio
from trackio.sqlite_storage import SQLiteStorage
runs = []
for run in trackio.Api().runs("genlab"):
    logs = SQLiteStorage.get_logs("genlab", run.name, run_id=run.id)
    runs.append({"name": run.name, "config": run.config, "logs": logs, "alerts": run.alerts()})
print("RUNS" + json.dumps(runs, default=str))
"""


@dataclass
class Kept:
    """One run of a store.

    Attributes:
        name: its name.
        status: ``done``, ``interrupted``, ``failed``, or empty if the store does not say.
        params: config values as text, by their flat keys.
        tags: tags, or values of tags.
        group: group of the run.
        curves: points (images seen, value) of every figure.
        pictures: numbers of images seen of every kind of picture.
        samples: captions of the final samples.
        protocols: protocols of the final figures.
    """

    name: str
    status: str = ""
    params: dict[str, str] = field(default_factory=dict)
    tags: list[str] = field(default_factory=list)
    group: str | None = None
    curves: dict[str, list[tuple[int, float]]] = field(default_factory=dict)
    pictures: dict[str, list[int]] = field(default_factory=dict)
    samples: list[str] = field(default_factory=list)
    protocols: dict[str, Any] = field(default_factory=dict)


def of_mlflow(outputs: Path) -> list[Kept]:
    from mlflow.tracking import MlflowClient

    client = MlflowClient(f"sqlite:///{outputs / 'mlflow.db'}")
    experiment = client.get_experiment_by_name("genlab")
    assert experiment is not None
    runs = []
    for run in client.search_runs([experiment.experiment_id]):
        key, data = run.info.run_id, run.data
        status = {"FINISHED": "done", "KILLED": "interrupted", "FAILED": "failed"}.get(run.info.status, "")
        kept = Kept(run.info.run_name, status, data.params, list(data.tags.values()), data.tags.get("group"))
        for name in data.metrics:
            kept.curves[name] = [(point.step, point.value) for point in client.get_metric_history(key, name)]
        for file in client.list_artifacts(key, "images"):
            if found := re.match(r"images/(\w+)[%+]step[%+](\d+)[%+].*\.png", file.path):
                kept.pictures.setdefault(found[1], []).append(int(found[2]))
        kept.samples = [Path(file.path).stem for file in client.list_artifacts(key, "final_samples")]
        if any(file.path == "protocols.json" for file in client.list_artifacts(key)):
            kept.protocols = json.loads(Path(client.download_artifacts(key, "protocols.json")).read_text())
        runs.append(kept)
    return runs


def of_aim(outputs: Path) -> list[Kept]:
    from aim import Repo

    aim = str(Path(sys.executable).with_name("aim"))  # which indexes the runs, as aim up does
    subprocess.run([aim, "storage", "--repo", str(outputs), "reindex", "--yes"], check=True, capture_output=True)
    runs = []
    for run in Repo(str(outputs)).iter_runs():
        content = run[...]
        kept = Kept(run.name, content.get("ended", {}).get("word", ""), flat_text(content["hparams"]), list(run.tags))
        kept.group, kept.protocols = content["group"] or None, content.get("protocols", {})
        for name, context, _ in run.iter_metrics_info():
            steps, (values, *_) = run.get_metric(name, context).data.numpy()
            kept.curves[name] = list(zip(map(int, steps), map(float, values), strict=True))
        for name, context, _ in run.iter_sequence_info_by_type("aim.image"):
            images = run.get_image_sequence(name, context).data
            if name == "final_samples":
                kept.samples = [image.caption for image in images.values_list()[0][0]]
            else:
                kept.pictures[name] = list(map(int, images.indices_list()))
        runs.append(kept)
    return runs


def of_trackio(outputs: Path) -> list[Kept]:
    environment = {**os.environ, "TRACKIO_DIR": str(outputs / "trackio")}
    printed = subprocess.run([sys.executable, "-c", TRACKIO], env=environment, capture_output=True, text=True)
    (line,) = [line for line in printed.stdout.splitlines() if line.startswith("RUNS")]
    runs = []
    for run in json.loads(line.removeprefix("RUNS")):
        config = run["config"]
        kept = Kept(run["name"], "failed" if run["alerts"] else "", {k: str(v) for k, v in config.items()})
        kept.tags, kept.group = config["tags"], config["_Group"]
        for row in run["logs"]:
            for name in row.keys() - {"step", "timestamp"}:
                value = row[name]
                if isinstance(value, int | float):
                    kept.curves.setdefault(name, []).append((row["step"], value))
                elif name == "final_samples":
                    kept.samples = [one["caption"] for one in value["_value"]]
                elif name == "protocols":
                    kept.protocols = {one["figure"]: json.loads(one["protocol"]) for one in value["_value"]}
                else:
                    kept.pictures.setdefault(name, []).append(row["step"])
        runs.append(kept)
    return runs


READERS = {"mlflow": of_mlflow, "aim": of_aim, "trackio": of_trackio}


def flat_text(node: Any, prefix: str = "") -> dict[str, str]:
    if isinstance(node, dict):
        return {k: v for key, value in node.items() for k, v in flat_text(value, f"{prefix}.{key}".strip(".")).items()}
    return {prefix: str(node)}


@pytest.fixture(scope="session")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An MLflow database without runs, whose making takes seconds."""
    tracking = pytest.importorskip("mlflow.tracking")
    path = tmp_path_factory.mktemp("mlflow") / "mlflow.db"
    tracking.MlflowClient(f"sqlite:///{path}").search_experiments()
    return path
