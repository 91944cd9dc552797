"""Charts of a figure against a sampling setting, such as FID against the number of steps: one line per run."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from genlab.comparison.runs import Run
from genlab.metrics.catalogue import figure
from genlab.metrics.result import Result

# Protocol fields that may differ along a line: the sampling settings, in all their forms, and the random seed.
OF_THE_SETTINGS = ("sampling", "sampler", "temperature", "seed")


def against_settings(runs: Sequence[tuple[int, Run]]) -> list[dict[str, Any]]:
    """Build the charts of a page: one for each figure and numeric sampling setting that varies within a run.

    A line connects results of a run that differ only in this setting. The lines of a chart have the same protocol and
    the same values of the other settings. If a run has two results for one value of the setting, the later counts.

    Args:
        runs: pairs of a row number and a run.

    Returns:
        Charts as plain values: ``metric``, ``label``, ``better``, ``setting``, ``log`` (whether the setting spans a
        decade), ``fixed`` (the other settings) and ``lines``, each with ``row``, ``run``, ``x`` and ``y``.
    """
    charts: dict[tuple[str, str, str], dict[int, dict[float, float]]] = {}
    for number, (_, run) in enumerate(runs):
        for metric, result in _results(run):
            sampling = result.protocol["sampling"]
            rest = {key: part for key, part in result.protocol.items() if key not in OF_THE_SETTINGS}
            for setting, at in sampling.items():
                if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
                    continue
                others = {key: part for key, part in sampling.items() if key != setting}
                alike = json.dumps([others, rest], sort_keys=True, default=str)
                charts.setdefault((metric, setting, alike), {}).setdefault(number, {})[at] = float(result.value)
    return [
        _chart(metric, setting, json.loads(alike)[0], lines, [row for row, _ in runs])
        for (metric, setting, alike), found in charts.items()
        if (lines := {number: line for number, line in found.items() if len(line) > 1})
    ]


def _results(run: Run) -> Iterator[tuple[str, Result]]:
    """Iterate over results whose protocol has sampling settings: those of training first, then of each evaluation."""
    for metric, results in run.results.items():
        for result in results:
            if isinstance(result.protocol.get("sampling"), Mapping) and math.isfinite(result.value):
                yield metric, result


def _chart(
    metric: str, setting: str, fixed: Mapping[str, Any], lines: Mapping[int, Mapping[float, float]], rows: Sequence[int]
) -> dict[str, Any]:
    about = figure(metric)
    every = [at for line in lines.values() for at in line]
    return {
        "metric": metric,
        "label": about.label,
        "better": about.better,
        "setting": setting,
        "log": min(every) > 0 and max(every) >= 10 * min(every),
        "fixed": {key: value for key, value in fixed.items() if value is not None},
        "lines": [
            {"row": rows[number], "run": number, "x": sorted(line), "y": [line[at] for at in sorted(line)]}
            for number, line in lines.items()
        ],
    }
