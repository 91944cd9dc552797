"""Several runs side by side: a table of their figures and a picture of their samples."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from genlab.errors import InputError
from genlab.runs.console import console
from genlab.runs.folder import CONFIG, EVALUATION, STATUS, SUMMARY, RunFolder

# What must agree before two FIDs, or two likelihoods, stand in one column.
SAMPLE_PROTOCOL = (
    "dataset",
    "levels",
    "binarization",
    "features",
    "weights_sha256",
    "channels",
    "resize",
    "reference",
    "num_real",
    "num_samples",
    "temperature",
)
LIKELIHOOD_PROTOCOL = ("dataset", "levels", "binarization", "split", "num")


@dataclass
class Row:
    """One run as the table shows it."""

    folder: RunFolder
    name: str
    status: str
    summary: dict[str, Any]

    def result(self, metric: str) -> dict[str, Any] | None:
        return self.summary.get("metrics", {}).get(metric)


def read(folder: RunFolder) -> Row:
    """A run's row, whatever state it is in."""
    try:
        summary = folder.read_json(SUMMARY)
        later = folder.read_json(EVALUATION)
        status = folder.read_json(STATUS)
    except InputError as error:
        return Row(folder, folder.path.name, f"damaged: {error}", {})
    if later:
        summary = {**summary, "metrics": {**summary.get("metrics", {}), **later.get("metrics", {})}}
    name = summary.get("choices", {}).get("model") or _model_of(folder)
    words = status.get("status", "unknown")
    return Row(folder, name, f"{words}: {status['reason']}" if "reason" in status else words, summary)


def _model_of(folder: RunFolder) -> str:
    """What a run without a summary is made of, as far as its config tells."""
    import yaml

    try:
        return str(yaml.safe_load((folder.path / CONFIG).read_text())["choices"]["model"])
    except (OSError, yaml.YAMLError, KeyError, TypeError):
        return folder.path.name


def _column(rows: list[Row], metric: str, keys: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """A metric of every row, the best marked among those of one protocol; and notes on what is unlike."""
    results = [row.result(metric) for row in rows]
    protocols = [None if r is None else tuple(str(r["protocol"].get(key)) for key in keys) for r in results]
    there = [p for p in protocols if p is not None]
    common = max(set(there), key=there.count) if there else None
    values = [r["value"] for r, p in zip(results, protocols, strict=True) if r is not None and p == common]
    cells, unlike = [], False
    for result, protocol in zip(results, protocols, strict=True):
        if result is None:
            cells.append("-")
            continue
        bound = "≤ " if result["protocol"].get("likelihood") == "lower_bound" else ""
        text = f"{bound}{result['value']:.3f}"
        if protocol != common:
            text, unlike = f"{text} *", True
        elif len(values) > 1 and result["value"] == min(values):
            text = f"[bold green]{text}[/]"
        cells.append(text)
    return cells, [f"* {metric} under another protocol than the other rows: not ranked with them"] if unlike else []


def table(rows: list[Row]) -> None:
    """Print parameters, images/s, wall time, bits/dim and the sample-quality score of every run."""
    from rich.table import Table

    bits, bits_notes = _column(rows, "test/bits_per_dim", LIKELIHOOD_PROTOCOL)
    distance, distance_notes = _column(rows, "test/fid", SAMPLE_PROTOCOL)
    shown = Table()
    for title in ("model", "dataset", "parameters", "images seen", "images/s", "wall time", "bits/dim", "FID"):
        shown.add_column(title, justify="left" if title in ("model", "dataset") else "right", no_wrap=True)
    shown.add_column("status", overflow="fold")
    for row, b, d in zip(rows, bits, distance, strict=True):
        s = row.summary
        shown.add_row(
            row.name,
            s.get("choices", {}).get("dataset", "-"),
            _number(s.get("parameters"), ",.0f"),
            _number(s.get("images_seen"), ",.0f"),
            _number(s.get("images_per_second"), ",.0f"),
            _number(s.get("wall_seconds"), ".0f", " s"),
            b,
            d,
            row.status,
        )
    out = console()
    out.print(shown)
    for note in [*bits_notes, *distance_notes]:
        out.print(note)
    result = next((r for row in rows if (r := row.result("test/fid"))), None)
    if result:
        p = result["protocol"]
        out.print(
            f"FID: of {p['num_samples']:,} samples to {p['num_real']:,} {p['reference']} images, in the features "
            f"'{p['features']}'; lower is better. bits/dim: of the test set, ≤ a bound."
        )


def _number(value: float | None, form: str, unit: str = "") -> str:
    return "-" if value is None else f"{value:{form}}{unit}"


def picture(rows: list[Row], columns: int) -> Image.Image | None:
    """A row of real images, then a row of samples for each run that has some; ``None`` where none has."""
    strips: list[tuple[str, np.ndarray]] = []
    for row in rows:
        real, final = row.folder.samples / "real.npy", row.folder.samples / "final.npy"
        if not final.is_file():
            continue
        dataset = row.summary.get("choices", {}).get("dataset", "data")
        if real.is_file() and all(name != f"real {dataset}" for name, _ in strips):
            strips.append((f"real {dataset}", np.load(real)[:columns]))
        strips.append((row.name, np.load(final)[:columns]))
    if not strips:
        return None
    strips.sort(key=lambda strip: not strip[0].startswith("real "))
    side, gap, label = 48, 3, 190
    sheet = Image.new("RGB", (label + columns * (side + gap), len(strips) * (side + gap) + gap), "white")
    pen = ImageDraw.Draw(sheet)
    for i, (name, images) in enumerate(strips):
        top = gap + i * (side + gap)
        pen.text((6, top + side // 2 - 6), name, fill="black", font_size=14)
        for j, image in enumerate(images):
            pixels = image if len(image) in (1, 3) else image.mean(0, keepdims=True).astype(np.uint8)
            pixels = np.broadcast_to(pixels, (3, *pixels.shape[1:])).transpose(1, 2, 0)
            scale = side / max(pixels.shape[:2])
            size = (round(scale * pixels.shape[1]), round(scale * pixels.shape[0]))
            tile = Image.fromarray(np.ascontiguousarray(pixels)).resize(size, Image.Resampling.NEAREST)
            sheet.paste(tile, (label + j * (side + gap), top))
    return sheet
