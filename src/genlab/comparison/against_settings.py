"""Charts of a figure against a sampling setting, such as FID against the number of steps: one line per run."""

import json
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from genlab.comparison.runs import Run
from genlab.metrics.catalogue import figure
from genlab.metrics.result import Result

# Protocol fields that may differ along a line: the sampling settings, in all their forms, and the random seed.
OF_THE_SETTINGS = ("sampling", "sampler", "temperature", "seed")
EVALUATIONS = "network evaluations"
COUNTED = "network_evaluations"  # protocol field of the evaluations that a solver with steps of its own took


def against_settings(runs: Sequence[tuple[int, Run]]) -> list[dict[str, Any]]:
    """Build the charts of a page: one for each figure and numeric sampling setting that varies within a run.

    A line connects results of a run that differ only in this setting. The lines of a chart have the same protocol and
    the same values of the other settings. If a run has two results for one value of the setting, the later counts.

    Where the evaluations of a network are counted, they take the place of the number of steps, because a step of one
    solver costs more than one of another; their chart holds the lines of all solvers.

    Args:
        runs: pairs of a row number and a run.

    Returns:
        Charts as plain values: ``metric``, ``label``, ``better``, ``setting``, ``log`` (whether the setting spans a
        decade), ``fixed`` (the other settings) and ``lines``, each with ``row``, ``run``, ``x``, ``y`` and, if the
        lines of a chart differ in other settings, these as ``settings``.
    """
    charts: dict[tuple[str, str, str], dict[tuple[int, str], dict[float, float]]] = {}
    for number, (_, run) in enumerate(runs):
        for metric, result in _results(run):
            for setting, at, shared, own in _places(result.protocol):
                key = (metric, setting, json.dumps(shared, sort_keys=True, default=str))
                line = (number, json.dumps(own, sort_keys=True, default=str))
                charts.setdefault(key, {}).setdefault(line, {})[at] = float(result.value)
    return [
        _chart(metric, setting, json.loads(shared)[0], lines, [row for row, _ in runs])
        for (metric, setting, shared), found in charts.items()
        if (lines := {line: points for line, points in found.items() if len(points) > 1})
    ]


def evaluations_of(protocol: Mapping[str, Any]) -> float | None:
    """Read the number of network evaluations for a sample from a protocol; None if they are not counted.

    Of solvers that choose their own steps, it is the mean over the samples.
    """
    if (mean := protocol.get(COUNTED)) is not None:
        return float(mean)
    found = re.search(r"(\d+) network evaluation", str(protocol.get("sampler")))
    return int(found[1]) if found else None


def _places(protocol: Mapping[str, Any]) -> Iterator[tuple[str, float, list[Any], dict[str, Any]]]:
    """Iterate over the charts of a result: the setting, its value, what a chart shares and what a line shares."""
    sampling = protocol["sampling"]
    rest = {key: part for key, part in protocol.items() if key not in (*OF_THE_SETTINGS, COUNTED)}
    count = evaluations_of(protocol)
    counted = () if count is None else ("num_steps", "tolerance") if COUNTED in protocol else ("num_steps",)
    if count is not None:
        yield EVALUATIONS, count, [{}, rest], {key: part for key, part in sampling.items() if key not in counted}
    for setting, at in sampling.items():
        is_number = isinstance(at, int | float) and not isinstance(at, bool) and math.isfinite(at)
        if is_number and setting not in counted:
            yield setting, at, [{key: part for key, part in sampling.items() if key != setting}, rest], {}


def _results(run: Run) -> Iterator[tuple[str, Result]]:
    """Iterate over results whose protocol has sampling settings: those of training first, then of each evaluation."""
    for metric, results in run.results.items():
        for result in results:
            if isinstance(result.protocol.get("sampling"), Mapping) and math.isfinite(result.value):
                yield metric, result


def _chart(
    metric: str,
    setting: str,
    fixed: Mapping[str, Any],
    lines: Mapping[tuple[int, str], Mapping[float, float]],
    rows: Sequence[int],
) -> dict[str, Any]:
    about = figure(metric)
    every = [at for line in lines.values() for at in line]
    own = {key: json.loads(key[1]) for key in lines}
    first, *others = own.values()
    common = {key: part for key, part in first.items() if all(key in other and other[key] == part for other in others)}
    drawn: list[dict[str, Any]] = []
    for (number, settings), points in lines.items():
        x = sorted(points)
        line = {"row": rows[number], "run": number, "x": x, "y": [points[at] for at in x]}
        differing = {key: part for key, part in own[number, settings].items() if key not in common}
        drawn.append({**line, "settings": differing} if differing else line)
    return {
        "metric": metric,
        "label": about.label,
        "better": about.better,
        "setting": setting,
        "log": min(every) > 0 and max(every) >= 10 * min(every),
        "fixed": {key: value for key, value in {**fixed, **common}.items() if value is not None},
        "lines": drawn,
    }
