"""All evaluations of a run, kept side by side in its ``evaluation.json``."""

import json
from collections.abc import Mapping
from typing import Any

from genlab.metrics.figure import Figure
from genlab.metrics.result import Result
from genlab.runs.folder import EVALUATION, RunFolder
from genlab.runs.verdicts import Standing


def kept(content: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List the evaluations of an ``evaluation.json``, each with its ``settings`` and ``metrics``, the newest last.

    An earlier version stored evaluations under a label in words; theirs is returned as the setting ``label``.

    Args:
        content: content of the file.
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
    beside: Mapping[str, Standing] | None = None,
) -> None:
    """Add an evaluation to those of a run, replacing one with the same settings.

    Args:
        folder: folder of the run.
        settings: everything that distinguishes this evaluation from others, as plain values.
        figures: results of the evaluation, by name.
        declared: declarations of figures that are not genlab's own, by name.
        beside: published figures beside those of the evaluation, by short name.
    """
    before = folder.read_json(EVALUATION)
    # As they will be read from the file, so that they can be compared with those of earlier evaluations.
    settings = json.loads(json.dumps(settings, default=str))
    metrics = {name: result.to_json() for name, result in figures.items()}
    others = [one for one in kept(before) if one.get("settings") != settings]
    about = {**before.get("figures", {}), **{name: figure.to_json() for name, figure in declared.items()}}
    published = {"published": {name: one.to_json() for name, one in beside.items()}} if beside else {}
    content = {
        "metrics": metrics,
        "evaluations": [*others, {"settings": settings, "metrics": metrics, **published}],
        **({"figures": about} if about else {}),
    }
    folder.write_json(EVALUATION, content)
