"""What all trackers are told of a run: its config, its final samples, and how its figures were measured."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from genlab.loggers.tracker import Tracker, caption
from genlab.machine.environment import code
from genlab.metrics.result import Result
from genlab.pictures.grid import grid
from genlab.runs.verdicts import Standing

# Of this launch, and not of the run; and where it is logged, which repeats the run's names, tags and choices.
LEFT_OUT = ("logger", "resume", "sweep", "trust", "force")
MOST_SAMPLES = 64
SAMPLES = "final_samples"


def told_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """Give the config that trackers show: nested, each value once, with the code's commit and version.

    Args:
        config: resolved config of the run.
    """
    return {**without_doubles(config), "code": code()}


def without_doubles(config: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out of a config what is of the launch only, and the parts that it has twice.

    A part of the top level that another part has again, as ``training.schedule`` is ``schedule``, is left out there.

    Args:
        config: resolved config of the run.
    """
    kept = {key: value for key, value in config.items() if key not in LEFT_OUT}
    doubles = [
        key
        for key, value in kept.items()
        if isinstance(value, Mapping)
        and value
        and any(_has(part, key, value) for name, part in kept.items() if name != key)
    ]
    return {key: value for key, value in _without_empty(kept).items() if key not in doubles}


def _without_empty(node: Any) -> Any:
    """Leave out empty mappings, which trackers keep or drop each in its own way."""
    if not isinstance(node, Mapping):
        return node
    inner = {key: _without_empty(value) for key, value in node.items()}
    return {key: value for key, value in inner.items() if not isinstance(value, Mapping) or value}


def _has(node: Any, key: str, value: Any) -> bool:
    """Tell whether a nested config has a value under a key, at any depth."""
    if not isinstance(node, Mapping):
        return False
    return any((name == key and part == value) or _has(part, key, value) for name, part in node.items())


def record_end(
    loggers: Iterable[Any],
    figures: Mapping[str, Result],
    beside: Mapping[str, Standing],
    images_seen: int,
    samples: Path | None,
) -> None:
    """Tell the trackers the final samples, how each final figure was measured, and the verdicts.

    Args:
        loggers: loggers of the run, of which the trackers are used.
        figures: final results by the name of the figure.
        beside: published figures beside the run's, by short name.
        images_seen: number of training images seen.
        samples: path of the array of final samples; None if a sample is no picture by itself.
    """
    facts: dict[str, Any] = {f"published/{name}": one.published for name, one in beside.items()}
    facts |= {f"verdict/{name}": one.words for name, one in beside.items()}
    trackers = [logger for logger in loggers if isinstance(logger, Tracker)]
    if not trackers:
        return
    told = protocols(figures)
    pictures = final_pictures(samples) if samples is not None else []
    captions = [f"sample {i}, {caption(images_seen)}" for i in range(len(pictures))]
    for tracker in trackers:
        tracker.recover()
        if pictures:
            tracker.log_samples(SAMPLES, pictures, captions, images_seen)
        tracker.log_facts(facts, told)


def protocols(figures: Mapping[str, Result]) -> dict[str, dict[str, Any]]:
    """Give how each figure was measured, and its errors and warnings, without its value.

    Args:
        figures: results by the name of the figure.
    """
    return {
        name: {
            key: value
            for key, value in {**result.to_json(), **result.protocol}.items()
            if key not in ("value", "protocol")
        }
        for name, result in figures.items()
    }


def final_pictures(path: Path) -> list[Image.Image]:
    """Read the final samples of a run as pictures.

    Args:
        path: path of the array of bytes, ``(N, C, H, W)``; a missing file gives no pictures.
    """
    if not path.is_file():
        return []
    images = torch.from_numpy(np.load(path)[:MOST_SAMPLES]) / 255
    return [grid(images[i : i + 1], min_side=64) for i in range(len(images))]
