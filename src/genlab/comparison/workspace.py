"""A W&B workspace for the runs of a sweep, with the most important charts first."""

import csv
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from genlab.comparison.runs import Run, differing
from genlab.errors import InputError
from genlab.metrics.catalogue import figure
from genlab.runs.folder import METRICS

CHOICES = ("experiment", "model", "dataset")


@dataclass
class Plan:
    """The content of a workspace.

    Attributes:
        name: name of the workspace.
        project: W&B project of the runs.
        group: W&B group of the runs; None if they belong to several groups.
        ids: W&B ids of the runs.
        swept: config keys in which the runs differ, in W&B's notation.
        curves: names of the figures plotted over images seen.
        best: summary keys, the best value of the monitored figure first.
        pictures: keys of the logged pictures.
    """

    name: str
    project: str
    group: str | None
    ids: list[str]
    swept: list[str]
    curves: list[str]
    best: list[str]
    pictures: list[str]


def plan(runs: Sequence[Run], configs: Sequence[dict[str, Any]], name: str) -> Plan:
    """Plan the workspace from the contents of the run folders.

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
    names = list(dict.fromkeys(name for run in runs for name in _logged(run)))
    monitored = dict.fromkeys(m for run in runs if (m := run.config.get("monitor.metric")))
    validation = [*monitored, *(n for n in names if n.startswith("val/") and n not in monitored)]
    training = [n for n in names if n.startswith("train/") and n.endswith("loss")]
    finals = list(dict.fromkeys(name for run in runs for name in run.figures))
    return Plan(
        name=name,
        project=projects.pop(),
        group=groups.pop() if len(groups) == 1 else None,
        ids=[str(config.get("run_id")) for _, config in logged],
        swept=[f"choices/{key}" if key in CHOICES else key.replace(".", "/") for key in _config_keys(runs)] or ["seed"],
        curves=[*validation, *training, "train/images_per_second"],
        best=[*(f"best/{n}" for n in validation if figure(n).better), *finals],
        pictures=["samples", "reconstructions", "interpolations"],
    )


def _config_keys(runs: Iterable[Run]) -> list[str]:
    """List the differing keys that exist in the configs; the names of config groups do not."""
    runs = list(runs)
    return [key for key in differing(runs) if key in CHOICES or any(key in run.config for run in runs)]


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
        ("Curves", [f"{name}: mean and standard deviation over seeds" for name in plan.curves]),
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
        ("Best values", [f"{name}: bars, and a column of the table of runs" for name in plan.best]),
    ]


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
    runs = ws.RunsetSettings(
        filters=[chosen],
        groupby=[ws.Config(key) for key in plan.swept],
        order=[ws.Ordering(ws.Summary(plan.best[0]), ascending=figure(plan.best[0]).better != "max")]
        if plan.best
        else [],
        pinned_columns=[
            *(f"config:{key}.value" for key in plan.swept),
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
