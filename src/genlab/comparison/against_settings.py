"""Figures against a sampling setting, such as FID against the number of steps: a line for each run."""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from genlab.comparison.runs import Run
from genlab.errors import InputError
from genlab.metrics.catalogue import figure
from genlab.runs.folder import EVALUATION, SUMMARY

# Fields of a protocol that may differ along a line: the settings, told in other ways, and the seed of the noise.
OF_THE_SETTINGS = ("sampling", "sampler", "temperature", "seed")


def against_settings(runs: Sequence[tuple[int, Run]]) -> list[dict[str, Any]]:
    """The charts of a page: of each figure and numeric setting of sampling in which evaluations of one run differ.

    A line joins results of a run that differ in the setting alone; a chart has the lines of one protocol and of like
    values of the other settings. Of two results at one value of the setting, the later counts.

    Args:
        runs: runs, each with the number of its row.

    Returns:
        Charts as plain values: ``metric``, ``label``, ``better``, ``setting``, ``log`` (whether the setting spans a
        decade), ``fixed`` (the other settings) and ``lines``, each with ``row``, ``run``, ``x`` and ``y``.
    """
    charts: dict[tuple[str, str, str], dict[int, dict[float, float]]] = {}
    for number, (_, run) in enumerate(runs):
        for metric, value, protocol in _results(run):
            sampling = protocol["sampling"]
            rest = {key: part for key, part in protocol.items() if key not in OF_THE_SETTINGS}
            for setting, at in sampling.items():
                if isinstance(at, bool) or not isinstance(at, int | float) or not math.isfinite(at):
                    continue
                others = {key: part for key, part in sampling.items() if key != setting}
                alike = json.dumps([others, rest], sort_keys=True, default=str)
                charts.setdefault((metric, setting, alike), {}).setdefault(number, {})[at] = value
    return [
        _chart(metric, setting, json.loads(alike)[0], lines, [row for row, _ in runs])
        for (metric, setting, alike), found in charts.items()
        if (lines := {number: line for number, line in found.items() if len(line) > 1})
    ]


def _results(run: Run) -> Iterator[tuple[str, float, Mapping[str, Any]]]:
    """The results on samples that tell their sampling settings: those of training, then each evaluation's."""
    contents = []
    for name in (SUMMARY, EVALUATION):
        try:
            contents.append(run.folder.read_json(name))
        except InputError:  # damaged, which the table says
            contents.append({})
    kept = contents[1].get("evaluations", [])
    # A list of {settings, metrics}; in an earlier version the metrics of each by a label.
    evaluations = [{"metrics": one} for one in kept.values()] if isinstance(kept, Mapping) else kept
    for content in (contents[0], *evaluations):
        for metric, result in (content.get("metrics") or {}).items():
            if not isinstance(result, Mapping) or not isinstance(value := result.get("value"), int | float):
                continue
            protocol = result.get("protocol") or {}
            if isinstance(protocol.get("sampling"), Mapping) and math.isfinite(value):
                yield metric, float(value), protocol


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
