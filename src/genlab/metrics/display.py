"""Display of results in the terminal: rounded values, short descriptions of the protocol, a table."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from genlab.machine.console import console, styled
from genlab.metrics.catalogue import figure
from genlab.metrics.figure import Figure
from genlab.metrics.result import Result


def digits(value: float) -> str:
    """Format a value with four decimals, or with three significant digits if it is below 0.01."""
    return f"{value:.4f}" if abs(value) >= 0.01 or value == 0 else f"{value:.2e}"


def remark(result: Result) -> str:
    """Describe a result's protocol in a few words; fields that a protocol lacks are left out."""
    protocol, extra = result.protocol, result.extra
    examples = "windows" if "windows" in protocol else "images" if "levels" in protocol else "examples"
    words: list[str | None] = [result.unit]
    if "likelihood" in protocol:
        kind = str(protocol["likelihood"]).replace("_", " ")
        draws = f", {protocol['draws']:,} draws" if protocol.get("draws", 1) > 1 else ""
        classes = ", given their classes" if protocol.get("given") == "classes" else ""
        words.append(_listed(f"{kind}{draws}{classes}", _count(protocol, "num", f"test {examples}")))
    elif "split" in protocol:
        words.append(_count(protocol, "num", f"{protocol['split']} {examples}"))
    elif "features" in protocol:
        reference = Path(str(protocol.get("reference", "real"))).name  # a split, or a folder
        samples = _count(protocol, "num_samples", "samples"), _count(protocol, "num_real", f"{reference} images")
        words.append(_listed(f"{protocol['features']} features", *samples))
        words += [f"{extra['expected']:g} expected"] if "expected" in extra else []
    elif "num_samples" in protocol:
        words.append(_count(protocol, "num_samples", "samples"))
        words += [f"of {extra['out_of']:,}"] if "out_of" in extra else []
        words += [f"{extra['sampling_floor']:.2g} by sampling alone"] if "sampling_floor" in extra else []
    return "; ".join(filter(None, words))


def _count(protocol: Mapping[str, Any], key: str, noun: str) -> str | None:
    return f"{protocol[key]:,} {noun}" if key in protocol else None


def _listed(*parts: str | None) -> str:
    return ", ".join(filter(None, parts))


def print_figures(
    figures: Mapping[str, Result],
    more: Mapping[str, str | Sequence[str]],
    declared: Mapping[str, Figure] | None = None,
) -> None:
    """Print a table of results with their warnings, then further facts, one per line.

    Args:
        figures: results by the name of the figure.
        more: further facts by name, printed below the table; a fact of several lines is a sequence.
        declared: declarations of figures that are missing from the catalogue.
    """
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(justify="right", no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    for name, result in figures.items():
        spread = next((f" ± {one:.2g}" for one in (result.standard_error, result.std) if one is not None), "")
        words = [styled(remark(result), ""), styled(result.warning or "", "yellow")]
        about = Text("; ").join(word for word in words if word)
        table.add_row(figure(name, declared).label, f"{digits(result.value)}{spread}", about)
    out = console()
    out.print(table)
    for name, value in more.items():  # no line breaks, so that a long path can be copied
        for i, line in enumerate([value] if isinstance(value, str) else value):
            out.print(f"  {'' if i else name:<14}{line}", soft_wrap=True, highlight=False)
