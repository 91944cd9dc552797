"""A comparison as a single self-contained HTML file, which needs neither a network nor other files."""

import html
import json
import math
import re
from pathlib import Path
from typing import Any

from genlab.machine.files import write_atomically

PARTS = Path(__file__).with_name("page_parts")  # a template, and the styles and scripts that it names
_INSIDE = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'"
OFFLINE = f"{_INSIDE}; img-src data: blob:"  # what the browser allows the page to load
SERVED = f"{_INSIDE}; img-src 'self' data: blob:; connect-src 'self'"


def write_page(report: dict[str, Any], path: Path) -> None:
    """Write the page of a :func:`~genlab.comparison.report.report`, including its data and the chart library.

    Raises:
        OSError: if the file cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, page_of(encoded(report), report["title"]))


def page_of(report: str, heading: str, *, live: bool = False) -> str:
    """Join the parts of the page.

    Args:
        report: encoded report.
        heading: title of the page.
        live: whether the page is served and asks its server for newer reports; otherwise it loads nothing at all.
    """
    from plotly.offline import get_plotlyjs

    values = {
        "title": html.escape(heading),
        "policy": SERVED if live else OFFLINE,
        "live": "live" if live else "file",
        "report": report,
        "plotly": get_plotlyjs(),
    }

    # One pass over each part, so that placeholders inside inserted text are not replaced.
    def part(found: re.Match[str]) -> str:
        name = found[1]
        return values[name] if name in values else (PARTS / name).read_text(encoding="utf-8")

    return re.sub(r"\{\{([\w./]+)\}\}", part, (PARTS / "page.html").read_text(encoding="utf-8"))


def encoded(report: Any) -> str:
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
