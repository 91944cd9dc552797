"""The whole configs of many runs, told once where they agree."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from genlab.comparison.runs import Run


def usual_config(runs: Sequence[Run]) -> dict[str, Any]:
    """Give the most frequent value of every key that more than half of the runs have, in the order of the keys.

    Args:
        runs: runs with their saved configs.
    """
    found: dict[str, Counter[str]] = {}
    values: dict[tuple[str, str], Any] = {}
    for run in runs:
        for key, value in run.saved.items():
            found.setdefault(key, Counter())[repr(value)] += 1
            values[key, repr(value)] = value
    most = {key: counts.most_common(1)[0] for key, counts in found.items() if 2 * counts.total() > len(runs)}
    return {key: values[key, most[key][0]] for key in sorted(most)}


def beside_usual(run: Run, usual: Mapping[str, Any]) -> dict[str, Any]:
    """Tell what a run's config has other than the usual one: ``other`` values by key, and the keys that it ``lacks``.

    Args:
        run: run with its saved config.
        usual: what :func:`usual_config` gives.
    """
    absent = object()
    return {
        "other": {key: value for key, value in run.saved.items() if repr(usual.get(key, absent)) != repr(value)},
        "lacks": [key for key in usual if key not in run.saved],
    }
