"""The folder that a run is handed over in: weights, config, figures, a picture, a model card, and a graph if asked."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from omegaconf import OmegaConf

from genlab.composition.trust import foreign_modules
from genlab.data.tokenizers import TOKENIZER
from genlab.errors import InputError
from genlab.exporting.card import card
from genlab.exporting.graphs import NAME as GRAPH
from genlab.exporting.graphs import check_installed, graph_of, write_graph
from genlab.metrics.drawing import density_in_plane, draw
from genlab.metrics.result import Result
from genlab.models.abilities import Writes
from genlab.runs.config import portable
from genlab.runs.evaluations import kept
from genlab.runs.exported import FACTS
from genlab.runs.folder import CONFIG, EVALUATION, EXPORTED, STATUS, SUMMARY, RunFolder
from genlab.runs.loading import Run
from genlab.runs.stored_weights import weights_sha256
from genlab.views.write import Write

Form = Literal["safetensors", "onnx"]
CARD = "README.md"
# All that an export may write, and that the next one takes away with overwrite=true.
FILES = (
    EXPORTED,
    CONFIG,
    STATUS,
    SUMMARY,
    FACTS,
    CARD,
    TOKENIZER,
    "samples.png",
    "samples.txt",
    GRAPH,
    f"{GRAPH}.data",
)


def check_target(target: Path, overwrite: bool) -> None:
    """Check that an export may be written to a folder.

    Args:
        target: folder to write to.
        overwrite: whether files of an earlier export may be replaced.

    Raises:
        InputError: if the folder is that of a run, or holds anything and ``overwrite`` is not set.
    """
    if target.exists() and not target.is_dir():
        raise InputError(f"output={target} is a file: give a folder")
    if (target / CONFIG).is_file() and not (target / FACTS).is_file():
        raise InputError(f"output={target} is the folder of a run: give another folder")
    if target.is_dir() and any(target.iterdir()) and not overwrite:
        raise InputError(f"{target} is not empty: give another output=FOLDER, or overwrite=true replaces what is there")


def export(run: Run, forms: Sequence[Form], target: Path, num_samples: int = 36) -> dict[str, Any]:
    """Write a run in a form that opens by itself; :func:`check_target` is to be called first.

    The files appear in the folder when all of them are complete.

    Args:
        run: run to export, on the CPU.
        forms: forms to write. ``"safetensors"`` is always written, because the folder opens with it.
        target: folder to write to.
        num_samples: number of samples that are drawn for the card if the run has no picture of these weights.

    Returns:
        Content of ``export.json``.

    Raises:
        InputError: if the run cannot be opened or has no graph, and ONNX was asked for.
    """
    if "onnx" in forms:
        check_installed()
        graph_of(run.model)
    target.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=target.parent, prefix=f".{target.name}.") as name:
        folder = Path(name)
        about = _write(run, forms, folder, num_samples)
        target.mkdir(exist_ok=True)
        for path in [target / name for name in FILES]:
            path.unlink(missing_ok=True)
        for path in folder.iterdir():
            os.replace(path, target / path.name)
    return about


def _write(run: Run, forms: Sequence[Form], folder: Path, num_samples: int) -> dict[str, Any]:
    from safetensors.torch import save

    release = version("genlab")
    weights = {name: value.detach().cpu().contiguous().clone() for name, value in run.model.state_dict().items()}
    (folder / EXPORTED).write_bytes(save(weights, metadata={"format": "pt", "library": f"genlab {release}"}))
    config = portable(run.config, run.folder)
    (folder / CONFIG).write_text(OmegaConf.to_yaml(OmegaConf.create(config)), encoding="utf-8")
    figures = figures_of(run)
    summary = {**run.summary, "metrics": {name: result.to_json() for name, result in figures.items()}}
    status = run.folder.read_json(STATUS)
    told: dict[str, Any] = {key: status.get(key) for key in ("status", "started", "ended")}
    told["overrides"] = [word for word in status.get("overrides", []) if not word.startswith("paths.")]
    exported = RunFolder(folder)
    exported.write_json(SUMMARY, summary)
    exported.write_json(STATUS, told)
    if (tokenizer := run.folder.path / TOKENIZER).is_file():
        shutil.copyfile(tokenizer, folder / TOKENIZER)
    about: dict[str, Any] = {
        "genlab": release,
        "checkpoint": run.checkpoint,
        "weights": run.used_weights,
        "sha256": weights_sha256(weights),
        "data": run.trained_on,
        "modules": foreign_modules(config),
        "codes_of": config["dataset"].get("run") if run.is_coded else None,
    }
    if "onnx" in forms:
        about["onnx"] = write_graph(run.model, folder / GRAPH)
    samples = _show_samples(run, folder, num_samples)
    (folder / CARD).write_text(card(run, config, summary, about, figures, samples), encoding="utf-8")
    (folder / FACTS).write_text(json.dumps(about, indent=2, default=str) + "\n", encoding="utf-8")
    return about


def figures_of(run: Run) -> dict[str, Result]:
    """Give the latest results that were measured on the weights of an opened run, by name.

    Args:
        run: run whose model has been opened.
    """
    checkpoints = (run.checkpoint, "none") if run.checkpoint == "last" else (run.checkpoint,)
    found: dict[str, Result] = {}
    for one in [run.summary, *kept(run.folder.read_json(EVALUATION))]:
        for name, content in (one.get("metrics") or {}).items():
            result = Result.from_json(content)
            protocol = result.protocol
            if protocol.get("checkpoint") in checkpoints and protocol.get("weights") == run.used_weights:
                found[name] = result
    return found


def _show_samples(run: Run, folder: Path, num_samples: int) -> Path:
    """Put samples of the exported weights into the folder: those of the end of training, or new ones."""
    for suffix in (".png", ".txt"):
        final = run.folder.samples / f"final{suffix}"
        if final.is_file() and run.checkpoint == "best" and run.weights == "auto":
            return Path(shutil.copyfile(final, folder / f"samples{suffix}"))
    if isinstance(run.model, Writes):
        path = folder / "samples.txt"
        path.write_text(Write(n=1).texts(run)[0], encoding="utf-8")
        return path
    print(f"genlab: drawing {num_samples} samples for the model card", file=sys.stderr)
    samples = draw(run.model, num_samples, seed=0, decode=run.decode)
    real = run.data.first("test", 1000) if run.modality.is_overlaid else None
    return run.modality.render(samples, real, density=density_in_plane(run.model)).save(folder / "samples")
