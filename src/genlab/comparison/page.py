"""A comparison as a single self-contained HTML file, which needs neither a network nor other files."""

import html
import json
import math
import re
from pathlib import Path
from typing import Any

from genlab.machine.files import write_atomically

TEMPLATE = Path(__file__).with_name("page.html")


def write_page(report: dict[str, Any], path: Path) -> None:
    """Write the page of a :func:`~genlab.comparison.report.report`, including its data and the chart library.

    Raises:
        OSError: if the file cannot be written.
    """
    from plotly.offline import get_plotlyjs

    parts = {"title": html.escape(report["title"]), "report": _embedded(report), "plotly": get_plotlyjs()}
    # One pass over the template, so that placeholders inside inserted text are not replaced.
    page = re.sub(r"\{\{(\w+)\}\}", lambda found: parts[found[1]], TEMPLATE.read_text(encoding="utf-8"))
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page)


def _embedded(report: dict[str, Any]) -> str:
    """Encode as JSON that is safe inside HTML: it contains no character that could form a tag, comment or entity."""
    text = json.dumps(_finite(report), ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=str)
    return text.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e")


def _finite(value: Any) -> Any:
    """Replace NaN and infinity, which JSON cannot represent, by None."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
