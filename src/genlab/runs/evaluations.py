"""Every evaluation of a run, as ``evaluation.json`` keeps them side by side."""

import json
from collections.abc import Mapping
from typing import Any

from genlab.metrics.figure import Figure
from genlab.metrics.result import Result
from genlab.runs.folder import EVALUATION, RunFolder


def kept(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The evaluations that an ``evaluation.json`` holds, each its settings and metrics, the last one last.

    An earlier version kept them under a label in words, which is the one setting of these.
    """
    found = content.get("evaluations")
    if isinstance(found, Mapping):
        return [{"settings": {"label": label}, "metrics": metrics} for label, metrics in found.items()]
    return [dict(one) for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def record(
    folder: RunFolder,
    settings: Mapping[str, Any],
    figures: Mapping[str, Result],
    declared: Mapping[str, Figure],
) -> None:
    """Add an evaluation to those of a run; one of the same settings is replaced.

    Args:
        settings: everything that tells this evaluation from another one, as plain values.
        declared: declarations of figures that are not genlab's own.
    """
    before = folder.read_json(EVALUATION)
    settings = json.loads(json.dumps(settings, default=str))  # as they are read again, to be compared
    metrics = {name: result.to_json() for name, result in figures.items()}
    others = [one for one in kept(before) if one.get("settings") != settings]
    about = {**before.get("figures", {}), **{name: figure.to_json() for name, figure in declared.items()}}
    content = {
        "metrics": metrics,
        "evaluations": [*others, {"settings": settings, "metrics": metrics}],
        **({"figures": about} if about else {}),
    }
    folder.write_json(EVALUATION, content)
