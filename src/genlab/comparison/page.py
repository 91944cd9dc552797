"""A comparison as one HTML file that needs nothing else: no network, no folder beside it."""

import html
import json
import math
import re
from pathlib import Path
from typing import Any

from genlab.machine.files import write_atomically

TEMPLATE = Path(__file__).with_name("page.html")


def write_page(report: dict[str, Any], path: Path) -> None:
    """Write the page of a :func:`~genlab.comparison.report.report`, with the data and the chart library inside.

    Raises:
        OSError: where the file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    parts = {"title": html.escape(report["title"]), "report": _embedded(report), "plotly": get_plotlyjs()}
    # In one pass: what is put in is not searched again.
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], TEMPLATE.read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page)


def _embedded(report: dict[str, Any]) -> str:
    """JSON that no value in it can end: to HTML there is no tag, comment or entity in it."""
    text = json.dumps(_finite(report), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: Any) -> Any:
    """JSON has no word for NaN and infinity: nothing is known there."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
