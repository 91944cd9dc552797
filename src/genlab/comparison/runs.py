"""Runs read from their folders for comparison, in whatever state they are."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from genlab.comparison.later_keys import with_later_keys
from genlab.errors import InputError
from genlab.metrics.catalogue import catalogue
from genlab.metrics.display import digits, remark
from genlab.metrics.figure import Figure
from genlab.metrics.published import Published
from genlab.metrics.result import Result
from genlab.runs.config import below, flat, within
from genlab.runs.evaluations import kept
from genlab.runs.folder import CONFIG, EVALUATION, STATUS, SUMMARY, RunFolder
from genlab.runs.lock import is_at_work
from genlab.runs.records import check_metrics, check_record, read_record
from genlab.runs.rows import last_images_seen
from genlab.runs.verdicts import Finished, Standing, overridden, published_in, standings

# Config keys that do not define the experiment: where a run is stored, and how it is named, logged and measured.
NOT_OF_THE_RUN = (
    "run_dir",
    "run_id",
    "run_name",
    "group",
    "resume",
    "sweep",
    "trainer.tune",  # what it chose counts
    "trainer.tune_precision",
    "trainer.tune_seconds",
    "name",
    "tags",
    "notes",
    "paths",
    "logger",
    "callbacks.progress",
    "choices",
    "evaluations",
    "metrics.measures",  # runs that are only measured differently are runs of the same setting
    "callbacks.sample_metrics.measures",
    "dataset.num_workers",
    "dataset.source.cache_dir",
)
# Keys that runs of earlier versions lack, and that say nothing if they are null.
OF_START = ("init", "init_weights", "init_sha256")


@dataclass
class Run:
    """The content of a run folder.

    Attributes:
        folder: run folder.
        status: ``done``, ``running``, ``interrupted``, ``failed``, ``cut off`` (its process is gone) or ``damaged``.
        reason: reason of a failure, or a description of the damage.
        seed: random seed of the run.
        command: command that started the run.
        images_seen: number of images seen so far by a run in training.
        choices: chosen model, dataset and experiment.
        overrides: overrides that the run was started with, by key.
        saved: whole config as it was saved, flat, with ``run_dir`` in place of the run's folder.
        config: flat config, without keys that do not define the experiment and without seeds derived from the run's.
        figures: latest result of each figure, from the last evaluation if it measured the figure.
        trained: results from the end of training.
        results: all results of each figure in order of time, from the end of training to the last evaluation.
        declared: declarations of figures that are not part of genlab, by short name.
        summary: other content of ``summary.json``.
        published: published figures of the run's experiment; None if it reproduces none.
        finished: what a verdict needs of the run; None if it is not done, or nothing was published.
    """

    folder: RunFolder
    status: str = "unknown"
    reason: str | None = None
    seed: int | None = None
    command: str | None = None
    images_seen: int | None = None
    choices: dict[str, str] = field(default_factory=dict)
    overrides: dict[str, str] = field(default_factory=dict)
    saved: dict[str, Any] = field(default_factory=dict)
    config: dict[str, Any] = field(default_factory=dict)
    figures: dict[str, Result] = field(default_factory=dict)
    trained: dict[str, Result] = field(default_factory=dict)
    results: dict[str, list[Result]] = field(default_factory=dict)
    declared: dict[str, Figure] = field(default_factory=dict)
    summary: dict[str, Any] = field(default_factory=dict)
    published: Published | None = None
    finished: Finished | None = None

    @property
    def path(self) -> Path:
        return self.folder.path

    @property
    def standings(self) -> dict[str, Standing]:
        """The published figures beside those of this run alone, by short name; none if it is not done."""
        return standings(self.finished.published, [self.finished]) if self.finished else {}

    @property
    def is_trial(self) -> bool:
        """Tell whether the run only showed that everything runs (``debug=fast_dev_run``); its figures mean nothing."""
        return bool(self.config.get("trainer.fast_dev_run"))


def read_run(folder: RunFolder) -> Run:
    """Read everything that is readable in a run folder; unreadable and odd files set the status to ``damaged``."""
    try:
        return _read_run(folder)
    except Exception as error:  # whatever is wrong with one run, the others are compared
        return Run(folder, status="damaged", reason=f"{type(error).__name__}: {error}")


def _read_run(folder: RunFolder) -> Run:
    run, damaged = Run(folder), list[str]()

    def read(name: str) -> dict[str, Any]:
        try:
            content = read_record(folder, name)
            if name in (SUMMARY, EVALUATION):
                _check_results(content, folder.path / name)
        except InputError as error:
            damaged.append(str(error).replace(f"{folder.path}/", ""))
            return {}
        return content

    config, status, summary, later = (read(name) for name in (CONFIG, STATUS, SUMMARY, EVALUATION))
    try:
        check_metrics(folder)
    except InputError as error:
        damaged.append(str(error).replace(f"{folder.path}/", ""))
    run.status, run.reason = str(status.get("status", "unknown")), status.get("reason")
    if run.status == "running":
        run.images_seen = last_images_seen(folder)
        if is_at_work(folder.path, status) is False:
            run.status = "cut off"
    run.command = status.get("command")
    run.overrides = overridden(status.get("overrides", []))
    run.seed = config.get("seed")
    run.choices = {key: str(value) for key, value in (config.get("choices") or {}).items() if value is not None}
    run.saved = within(flat(config))
    run.config = _own(with_later_keys(config, run.overrides), run.overrides)
    run.trained, last = (_corrected(_results(content), run.config) for content in (summary, later))
    run.figures = {**run.trained, **last}
    for found in (run.trained, *(_corrected(_results(one), run.config) for one in kept(later)), last):
        for name, result in found.items():
            run.results.setdefault(name, []).append(result)
    run.declared = {**_declared(summary), **_declared(later)}
    run.summary = {key: value for key, value in summary.items() if key not in ("metrics", "figures")}
    run.published = published_in(config)
    if damaged:
        run.status, run.reason = "damaged", "; ".join(damaged)
    if run.status == "done":
        run.finished = Finished.of(config, summary, status, folder, run.results)
    return run


# What genlab's own figures of features have in their protocol; a user's own may have others.
_OF_FEATURES = ("reference", "num_samples", "num_real")


def _check_results(content: Mapping[str, Any], path: Path) -> None:
    """Raise InputError if a result cannot be shown, because its protocol lacks a field or has one of another type."""
    for one in kept(content):
        check_record({"metrics": one.get("metrics", {})}, EVALUATION, path)
    for found in (content, *kept(content)):
        for name, result in _results(found).items():
            own = name.rpartition("/")[2] in catalogue() and "features" in result.protocol
            if own and (missing := [key for key in _OF_FEATURES if key not in result.protocol]):
                raise InputError(f"{path} is damaged (the protocol of {name} has no {missing[0]})")
            try:
                remark(result)
                digits(result.value)
                float(result.value)
            except (TypeError, ValueError, OverflowError) as error:
                raise InputError(f"{path} is damaged ({name} cannot be shown: {error})") from None


def _results(content: Mapping[str, Any]) -> dict[str, Result]:
    found = content.get("metrics")
    return {
        name: Result.from_json(result)
        for name, result in (found.items() if isinstance(found, Mapping) else ())
        if isinstance(result, Mapping)
        and isinstance(result.get("value"), int | float)
        and isinstance(result.get("protocol"), Mapping)
    }


def _corrected(results: dict[str, Result], config: Mapping[str, Any]) -> dict[str, Result]:
    """Call bounds what they are: earlier versions called the dequantized density of an autoregressive model exact."""
    if not str(config.get("model.distribution._target_")).endswith(".DequantizedGaussian"):
        return results
    bound = {"likelihood": "lower_bound", "draws": 1}
    return {
        name: result.under(bound) if result.protocol.get("likelihood") == "exact" else result
        for name, result in results.items()
    }


def _declared(content: Mapping[str, Any]) -> dict[str, Figure]:
    found = content.get("figures")
    return {
        name: Figure.from_json(about)
        for name, about in (found.items() if isinstance(found, Mapping) else ())
        if isinstance(about, Mapping) and "label" in about
    }


def _own(config: Mapping[str, Any], overrides: Mapping[str, str]) -> dict[str, Any]:
    """Keep the part of a config that defines the experiment: no paths, and no seeds derived from the run's seed."""
    places = tuple(str(path) for path in (config.get("paths") or {}).values() if path)
    return {
        key: value
        for key, value in within(flat(config)).items()
        if not below(key, NOT_OF_THE_RUN)
        and not (key in OF_START and value is None)
        and (key.rpartition(".")[2] != "seed" or ("." in key and key in overrides))
        and not (isinstance(value, str) and value.startswith(("run_dir", *places)))
    }


# -- what differs ------------------------------------------------------------------------------------------------------

ABSENT = object()  # marks a missing key, as distinct from the value None


def differing(runs: Iterable[Run]) -> dict[str, list[Any]]:
    """Find the keys in which runs differ, each with its value in every run.

    Choices of config groups and overrides come first, because they are intended differences. Other keys are only
    included if no earlier key determines their values: a key that has a fixed value for each model, for example, is
    left out if the model is listed.
    """
    runs = list(runs)
    told: dict[str, list[Any]] = {}
    for key in ("experiment", "model", "dataset"):
        _keep_if_differing(told, key, [run.choices.get(key, ABSENT) for run in runs])
    overridden = dict.fromkeys(key for run in runs for key in run.overrides)
    for key in overridden:
        if key in ("experiment", "model", "dataset", "seed") or below(key, NOT_OF_THE_RUN):
            continue
        in_config = [run.config.get(key, ABSENT) for run in runs]
        if all(value is ABSENT for value in in_config):  # a group's choice
            in_config = [run.overrides.get(key, ABSENT) for run in runs]
        _keep_if_differing(told, key, in_config)
    columns = [*map(_names, told.values())]
    choices = [tuple(sorted(run.choices.items())) for run in runs]
    explanations, unexplained = [_names(choices), *columns], dict[str, list[Any]]()
    for key in sorted(dict.fromkeys(key for run in runs for key in run.config), key=lambda key: (key.count("."), key)):
        values = [run.config.get(key, ABSENT) for run in runs]
        names = _names(values)
        if len(set(names)) > 1 and key not in told and not any(_follows(names, other) for other in explanations):
            unexplained[key] = values
            explanations.append(names)
    return {**told, **unexplained}


def _keep_if_differing(told: dict[str, list[Any]], key: str, values: list[Any]) -> None:
    if len(set(_names(values))) > 1:
        told[key] = values


def _names(values: Iterable[Any]) -> list[str]:
    return ["" if value is ABSENT else repr(value) for value in values]


def _follows(values: list[str], others: list[str]) -> bool:
    """Tell whether ``values`` is a function of ``others``."""
    told: dict[str, str] = {}
    return all(told.setdefault(other, value) == value for other, value in zip(others, values, strict=True))
