"""A W&B workspace for the runs of a sweep, with the most important charts first."""

import csv
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from genlab.comparison.runs import Run, differing
from genlab.errors import InputError
from genlab.loggers.contents import without_doubles
from genlab.metrics.catalogue import figure
from genlab.runs.config import flat
from genlab.runs.folder import METRICS

LAST = 1000  # rank of the figures that have none
CHOICES = ("experiment", "model", "dataset")


@dataclass
class Plan:
    """The content of a workspace.

    Attributes:
        name: name of the workspace.
        project: W&B project of the runs.
        group: W&B group of the runs; None if they belong to several groups.
        ids: W&B ids of the runs.
        swept: config keys in which the runs differ.
        curves: names of the figures plotted over images seen.
        best: summary keys, the best value of the most common validation figure first.
        pictures: keys of the logged pictures.
        lacking: number of runs that lack a figure, by its name or summary key, if some do.
    """

    name: str
    project: str
    group: str | None
    ids: list[str]
    swept: list[str]
    curves: list[str]
    best: list[str]
    pictures: list[str]
    lacking: dict[str, int] = field(default_factory=dict)


def plan(runs: Sequence[Run], configs: Sequence[dict[str, Any]], name: str) -> Plan:
    """Plan the workspace from the contents of the run folders; it shows the figures that most of the runs have.

    Args:
        runs: runs to show; those not logged to W&B are skipped.
        configs: saved config of each run.
        name: name of the workspace.

    Raises:
        InputError: if no run was logged to W&B, or if the runs belong to several projects.
    """
    logged = [
        (run, config) for run, config in zip(runs, configs, strict=True) if (config.get("logger") or {}).get("wandb")
    ]
    if not logged:
        raise InputError("none of these runs was logged to W&B (logger=default or logger=wandb)")
    runs = [run for run, _ in logged]
    projects = {str(config["logger"]["wandb"].get("project")) for _, config in logged}
    if len(projects) > 1:
        raise InputError(f"these runs are of several W&B projects: {', '.join(sorted(projects))}")
    groups = {config.get("group") for _, config in logged}
    logged_names = Counter(name for run in runs for name in set(_logged(run)))
    names = sorted(_common(logged_names, len(runs)))
    monitored = Counter(str(run.config.get("monitor.metric")) for run in runs)
    chosen_by = _common(monitored, len(runs)) if 2 * max(monitored.values()) > len(runs) else []
    validation = sorted(
        (name for name in names if name.startswith("val/")),
        key=lambda name: (-logged_names[name], name not in chosen_by, figure(name).curve or LAST, name),
    )
    training = [name for name in names if name.startswith("train/") and name.endswith("loss")]
    ended = Counter(name for run in runs for name in run.figures)
    finals = sorted(_common(ended, len(runs)), key=lambda name: -ended[name])
    drawn = Counter(name for run in runs for name in _drawn(run))
    best = {f"best/{name}": logged_names[name] for name in validation if figure(name).better}
    counts = {**{name: logged_names[name] for name in names}, **best, **{name: ended[name] for name in finals}}
    return Plan(
        name=name,
        project=projects.pop(),
        group=groups.pop() if len(groups) == 1 else None,
        ids=[str(config.get("run_id")) for _, config in logged],
        swept=_swept(runs, [config for _, config in logged]) or ["seed"],
        curves=[*validation, *training, *(name for name in names if name == "train/images_per_second")],
        best=[*best, *finals],
        pictures=sorted(_common(drawn, len(runs)), key=lambda name: (name != "samples", name)) or ["samples"],
        lacking={name: len(runs) - count for name, count in counts.items() if count < len(runs)},
    )


def _common(counts: Counter[str], num: int) -> list[str]:
    """Give the names that more than half of the runs have; if there are none, those that the most runs have."""
    least = min(num // 2 + 1, max(counts.values(), default=0))
    return [name for name, count in counts.items() if count >= least]


def _drawn(run: Run) -> set[str]:
    """List the kinds of pictures of a run, such as ``samples`` and ``reconstructions``."""
    stems = [path.stem.rpartition("-") for path in (run.path / "samples").glob("*.png")]
    return {name or "samples" for name, _, digits in stems if digits.isdigit()}


def _swept(runs: Sequence[Run], configs: Iterable[Mapping[str, Any]]) -> list[str]:
    """List the keys in which runs differ and that W&B has; it has no names of config groups but those of CHOICES."""
    told = {key for config in configs for key in flat(without_doubles(config))}
    return [f"choices.{key}" if key in CHOICES else key for key in differing(runs) if key in CHOICES or key in told]


def _logged(run: Run) -> list[str]:
    try:
        with (run.path / METRICS).open(newline="", encoding="utf-8") as file:
            return next(csv.reader(file), [])
    except (OSError, UnicodeDecodeError):
        return []


def outline(plan: Plan, entity: str | None) -> str:
    """Describe the planned workspace as text."""
    where = f"{entity or 'your default entity'}/{plan.project}"
    of = f"the group {plan.group}" if plan.group else f"the runs {', '.join(plan.ids)}"
    sections = "\n".join(
        f"  {title}\n" + "\n".join(f"    {panel}" for panel in panels) for title, panels in _sections_in_words(plan)
    )
    return (
        f'workspace "{plan.name}" in {where}, of {of}, over images_seen, one colour for each {_each(plan)}\n{sections}'
    )


def _each(plan: Plan) -> str:
    return " and ".join(plan.swept)


def _sections_in_words(plan: Plan) -> list[tuple[str, list[str]]]:
    return [
        ("Curves", [f"{name}: mean and standard deviation over seeds{_of(plan, name)}" for name in plan.curves]),
        ("Samples", [f"{name}, with a slider over images seen" for name in plan.pictures]),
        (
            "What matters",
            [
                f"parallel coordinates: {', '.join([*plan.swept, plan.best[0]])}",
                f"parameter importance for {plan.best[0]}",
            ]
            if plan.best
            else [],
        ),
        ("Best values", [f"{name}: bars, and a column of the table of runs{_of(plan, name)}" for name in plan.best]),
        ("Runs side by side", ["run comparer: the config values and figures in which runs differ"]),
    ]


def _of(plan: Plan, name: str) -> str:
    lacking = plan.lacking.get(name, 0)
    return f" ({len(plan.ids) - lacking} of {len(plan.ids)} runs)" if lacking else ""


def workspace(plan: Plan, entity: str) -> Any:
    """Build the workspace without saving it.

    Raises:
        InputError: if wandb-workspaces is not installed.
    """
    try:
        import wandb_workspaces.reports.v2 as panels
        import wandb_workspaces.workspaces as ws
    except ImportError as error:
        raise InputError("a dashboard needs wandb-workspaces: pip install 'genlab[dashboard]'") from error

    chosen = ws.Metric("Group") == plan.group if plan.group else ws.Metric("ID").isin(plan.ids)
    curves: list[Any] = [
        panels.LinePlot(
            title=name,
            x="images_seen",
            y=[name],
            groupby_aggfunc="mean",
            groupby_rangefunc="stddev",
            max_runs_to_show=50,
        )
        for name in plan.curves
    ]
    pictures: list[Any] = [
        panels.MediaBrowser(title=name, media_keys=[name], mode="gallery", gallery_axis="step")
        for name in plan.pictures
    ]
    sections = [
        ws.Section(name="Curves", panels=curves, is_open=True, panel_settings=ws.SectionPanelSettings("images_seen")),
        ws.Section(name="Samples", panels=pictures, is_open=True),
    ]
    if plan.best:
        axes = [panels.Config(key) for key in plan.swept] + [panels.SummaryMetric(plan.best[0])]
        matters: list[Any] = [
            panels.ParallelCoordinatesPlot(
                columns=[panels.ParallelCoordinatesPlotColumn(metric=axis) for axis in axes]
            ),
            panels.ParameterImportancePlot(with_respect_to=plan.best[0]),
        ]
        sections.append(ws.Section(name="What matters", panels=matters, is_open=True))
        bars: list[Any] = [
            panels.BarPlot(title=name, metrics=[name], groupby_aggfunc="mean", groupby_rangefunc="stddev")
            for name in plan.best
        ]
        sections.append(ws.Section(name="Best values", panels=bars, is_open=True))
    comparer: list[Any] = [panels.RunComparer(diff_only="split")]
    sections.append(ws.Section(name="Runs side by side", panels=comparer, is_open=True))
    runs = ws.RunsetSettings(
        filters=[chosen],
        groupby=[ws.Config(key) for key in plan.swept],
        order=[ws.Ordering(ws.Summary(plan.best[0]), ascending=figure(plan.best[0]).better != "max")]
        if plan.best
        else [],
        pinned_columns=[
            *(_column(key) for key in plan.swept),
            *(f"summary:{name}" for name in plan.best),
        ],
    )
    return ws.Workspace(
        entity=entity,
        project=plan.project,
        name=plan.name,
        sections=sections,
        settings=ws.WorkspaceSettings(x_axis="images_seen", max_runs=50),
        runset_settings=runs,
    )


def _column(key: str) -> str:
    """Name the column of a nested config value in W&B's table of runs."""
    first, dot, rest = key.partition(".")
    return f"config:{first}.value{dot}{rest}"
