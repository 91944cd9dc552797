"""Quality against the cost of sampling: a figure of samples at several numbers of evaluations or steps."""

import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from genlab.comparison.against_settings import EVALUATIONS, against_settings
from genlab.comparison.places import expanded
from genlab.comparison.runs import Run, read_run
from genlab.errors import InputError
from genlab.metrics.display import digits
from genlab.pictures.figures import COLOURS, as_image, open_sides
from genlab.pictures.files import save_png
from genlab.runs.folder import RunFolder, find_runs


def quality_picture(rows: Mapping[str, Sequence[Run]], metric: str = "test/fid") -> Image.Image | None:
    """Draw a figure against network evaluations or, where these are not counted, against the setting that varies.

    Lines of one row with the same settings have the same colour. Of charts under several protocols, that with the most
    lines is drawn.

    Args:
        rows: runs by the row's name.
        metric: figure to draw.

    Returns:
        The picture; None if no run was measured at two values of a setting.
    """
    if (chart := _chart(rows, metric)) is None:
        return None

    from matplotlib.figure import Figure
    from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator, ScalarFormatter

    figure = Figure(figsize=(6.4, 4.2), dpi=100)
    axes = figure.add_axes((0.11, 0.12, 0.87, 0.85))
    labels = list[str]()
    for line in chart["lines"]:
        label = _label(line, list(rows))
        is_new = label not in labels
        labels += [label] * is_new
        colour = COLOURS[labels.index(label) % len(COLOURS)]
        legend = label if is_new else None
        axes.plot(line["x"], line["y"], label=legend, color=colour, marker="o", markersize=4, linewidth=1.5)
    ticks = sorted({at for line in chart["lines"] for at in line["x"]})
    if chart["log"]:
        axes.set_xscale("log")
        ticks = [at for i, at in enumerate(ticks) if i + 1 == len(ticks) or ticks[i + 1] > 1.15 * at]
    axes.xaxis.set_major_locator(FixedLocator(ticks))
    axes.xaxis.set_major_formatter(ScalarFormatter())
    axes.xaxis.set_minor_locator(NullLocator())
    values = np.array([at for line in chart["lines"] for at in line["y"]])
    if values.min() > 0 and values.max() > 10 * values.min():
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter(ScalarFormatter())
        axes.yaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel(chart["setting"].replace("_", " "))
    axes.set_ylabel(chart["label"] + {"min": ", lower is better", "max": ", higher is better"}.get(chart["better"], ""))
    axes.grid(visible=True, color="#e5e5e5", linewidth=0.8)
    axes.legend(frameon=False, fontsize=9)
    open_sides(axes)
    return as_image(figure)


def draw_quality(path: str) -> None:
    """Draw what was measured of a run at several values of a sampling setting, and say where; nothing for one value.

    Args:
        path: folder of the run, or a file of its ``checkpoints/``.
    """
    folder = RunFolder(Path(path).parent.parent if Path(path).is_file() else Path(path))
    if (picture := quality_picture({folder.path.name: [read_run(folder)]})) is not None:
        target = folder.samples / "quality.png"
        save_png(picture, target)
        print(f"picture: {target}")


def quality_table(arguments: str, root: Path, metric: str = "test/fid") -> str:
    """Make the content of a block of quality: a picture, and a row for each model and solver with means over seeds.

    Args:
        arguments: file of the picture beside the page, then folders of runs relative to ``root``:
            ``quality.png results/mnist/flow_matching results/mnist/edm``.
        root: folder of the checkout.
        metric: figure to show.

    Raises:
        InputError: if no run was measured at several numbers of evaluations.
    """
    picture, rows = of_block(arguments, root)
    if (chart := _chart(rows, metric)) is None:
        raise InputError(f"quality: {arguments}: no run was measured at several numbers of evaluations")
    found: dict[str, dict[int, list[float]]] = {}
    for line in chart["lines"]:
        points = found.setdefault(_label(line, list(rows)), {})
        for x, y in zip(line["x"], line["y"], strict=True):
            points.setdefault(x, []).append(y)
    columns = _alike(sorted({x for points in found.values() for x in points}))
    titles = ["model and solver", "seeds", *(" or ".join(map(str, column)) for column in columns)]
    lines = [titles, ["---", *("---:" for _ in titles[1:])]]
    for label, points in found.items():
        cells = [[statistics.mean(points[x]) for x in column if x in points] for column in columns]
        shown = [digits(values[0]) if values else "-" for values in cells]
        lines.append([label, str(max(map(len, points.values()))), *shown])
    table = "".join(f"| {' | '.join(cells)} |\n" for cells in lines)
    image = f"![{chart['label']} against {chart['setting']}]({picture})"
    return f"{image}\n\n{chart['label']} at so many {chart['setting']}:\n\n{table}"


def of_block(arguments: str, root: Path) -> tuple[str, dict[str, list[Run]]]:
    """Read what a block of quality names: the file of its picture, and the runs of each folder."""
    picture, *folders = arguments.split()
    return picture, {
        Path(folder).name: [read_run(run) for run in find_runs(expanded([str(root / folder)]))] for folder in folders
    }


def _chart(rows: Mapping[str, Sequence[Run]], metric: str) -> dict[str, Any] | None:
    charts = against_settings([(number, run) for number, runs in enumerate(rows.values()) for run in runs])
    found = [chart for chart in charts if chart["metric"] == metric]
    return max(found, key=lambda one: (one["setting"] == EVALUATIONS, len(one["lines"]))) if found else None


def _label(line: Mapping[str, Any], names: Sequence[str]) -> str:
    return ", ".join([names[line["row"]], *(str(value) for value in line.get("settings", {}).values())])


def _alike(values: Sequence[int]) -> list[list[int]]:
    """Join sorted values that differ by less than a tenth, such as 19 and 20 evaluations."""
    joined = list[list[int]]()
    for value in values:
        if joined and value < 1.1 * joined[-1][0]:
            joined[-1].append(value)
        else:
            joined.append([value])
    return joined
