"""What a W&B run folder holds, read back with W&B's own reader: config, history, summary, images, and how it ended."""

import json
import math
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

WANDB = str(Path(sys.executable).with_name("wandb"))
IMAGES = ("images/separated", "image-file")


@dataclass
class Metric:
    """What ``define_metric`` said of a figure, or of all that a pattern names."""

    step: str | None = None  # its x-axis
    summary: tuple[str, ...] = ()  # "min", "max", ... of its values


@dataclass
class Image:
    step: int  # W&B's own
    path: str  # within the run's files


@dataclass
class Artifact:
    name: str
    type: str
    aliases: list[str]
    files: list[str]


@dataclass
class WandbRun:
    """A W&B run as W&B has it, from its file or from its server.

    A nested value of a history row or of the summary is under a dotted key: ``samples.filenames``.
    """

    id: str = ""
    name: str = ""
    project: str = ""
    group: str = ""
    job_type: str = ""
    notes: str = ""
    tags: list[str] = field(default_factory=list)
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    summary: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Metric] = field(default_factory=dict)
    artifacts: list[Artifact] = field(default_factory=list)
    alerts: list[tuple[str, str]] = field(default_factory=list)  # titles and texts
    exit_code: int | None = None  # none while it runs, and where it was killed
    started: str = ""  # ISO 8601
    parts: int = 1  # how many processes wrote it, one after the other
    repeated: list[int] = field(default_factory=list)  # steps that a later part has again

    @property
    def images(self) -> dict[str, list[Image]]:
        """The pictures of every key, in their order."""
        found: dict[str, list[Image]] = {}
        for row in self.history:
            for key in [key.removesuffix("._type") for key, value in row.items() if value in IMAGES]:
                paths = row.get(f"{key}.filenames") or [row[f"{key}.path"]]
                found.setdefault(key, []).extend(Image(row["_step"], path) for path in paths)
        return found

    @property
    def steps(self) -> list[int]:
        return [row["_step"] for row in self.history]

    def curve(self, name: str, over: str = "images_seen") -> list[tuple[float, float]]:
        """A figure's points (x, y) in the order that they were logged."""
        return [(row[over], row[name]) for row in self.history if name in row]


def read_run(file: Path) -> WandbRun:
    """One ``run-ID.wandb``, also of a process that was killed: as far as it was written."""
    run = WandbRun()
    for record in _records(file):
        content = record.get(record["type"], {})
        match record["type"]:
            case "run":
                run.id, run.project = content["run_id"], content.get("project", "")
                run.started = run.started or content.get("start_time", "")
                run.name, run.notes = content.get("display_name", ""), content.get("notes", "")
                run.group, run.job_type = content.get("run_group", ""), content.get("job_type", "")
                run.tags = content.get("tags", [])
                _update(run.config, content.get("config", {}))
            case "config":
                _update(run.config, content)
            case "summary":
                _update(run.summary, {**content, "update": dotted(content.get("update", {}))})
            case "history":
                run.history.append(dotted(content["item"]))
            case "metric":
                name = content.get("name") or content["glob_name"]
                kinds = tuple(kind for kind, chosen in content.get("summary", {}).items() if chosen)
                run.metrics[name] = Metric(content.get("step_metric"), kinds)
            case "artifact":
                files = [entry["path"] for entry in content["manifest"].get("contents", [])]
                run.artifacts.append(Artifact(content["name"], content["type"], content.get("aliases", []), files))
            case "alert":
                run.alerts.append((content["title"], content["text"]))
            case "exit":
                run.exit_code = content.get("exit_code", 0)
    run.config.pop("_wandb", None)
    return run


def read_folder(folder: Path) -> WandbRun:
    """The one W&B run of a folder, whose parts, each of one process, are merged as W&B's server merges them.

    Raises:
        ValueError: if there is none, or more than one.
    """
    files = {path.resolve() for path in folder.rglob("*.wandb")}  # one of them also as latest-run
    runs = sorted(map(read_run, files), key=lambda run: run.started)
    if len({run.id for run in runs}) != 1:
        raise ValueError(f"{folder} has {len({run.id for run in runs})} W&B runs, not one")
    return merged(runs)


def merged(parts: Iterable[WandbRun]) -> WandbRun:
    """Parts of one run, in order: rows go on after the last step there is; of all else, the newest counts."""
    first, *later = parts
    whole = WandbRun(**{**vars(first), "config": {**first.config}, "summary": {**first.summary}})
    whole.history, whole.repeated = [*first.history], [*first.repeated]
    for part in later:
        last = max(whole.steps, default=-1)
        whole.repeated += [step for step in part.steps if step <= last]
        whole.history += [row for row in part.history if row["_step"] > last]
        whole.config |= part.config
        whole.summary |= part.summary
        whole.metrics = {**whole.metrics, **part.metrics}
        whole.artifacts = [*whole.artifacts, *part.artifacts]
        whole.name, whole.group, whole.job_type = part.name, part.group, part.job_type
        whole.notes, whole.tags, whole.exit_code = part.notes, part.tags, part.exit_code
        whole.parts += part.parts
    return whole


def dotted(tree: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested dicts as one, with dotted keys; what is no finite number is text, as JSON has none."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, dict) and value:
            flat |= dotted(value, f"{prefix}{key}.")
        elif isinstance(value, float) and not math.isfinite(value):
            flat[prefix + key] = "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
        else:
            flat[prefix + key] = value
    return flat


def _records(file: Path) -> Iterator[dict[str, Any]]:
    printed = subprocess.run([WANDB, "leet", "inspect", "--json", str(file)], capture_output=True, text=True)
    # A killed process may leave half a record at the end, which the reader complains of after all the whole ones.
    lines = [line for line in printed.stdout.splitlines() if line.startswith("{")]
    if not lines:
        raise ValueError(f"{file} cannot be read: {printed.stderr.strip()}")
    return map(json.loads, lines)


def _update(target: dict[str, Any], change: dict[str, Any]) -> None:
    target |= change.get("update", {})
    for key in change.get("remove", []):
        target.pop(key, None)
