"""``genlab compare FOLDER...``: compare runs, reading nothing but their folders."""

import json
import shlex
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Literal

import hydra
from omegaconf import DictConfig

from genlab.composition.command_line import flags_as, paths_as, switches_as
from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors

TYPES = {
    "figures": list[str] | None,
    "sort": str | None,
    "columns": int,
    "watch": bool,
    "port": int,
    "html": str | None,
    "format": str,
    "spread": Literal["std", "sem"],
    "baseline": str | None,
}

_command = "genlab compare"  # the user's command line, which the page shows


def main() -> None:
    """Run the command on this process's command line, with flags and paths rewritten as Hydra's overrides."""
    global _command
    _command = shlex.join(["genlab", "compare", *sys.argv[1:]])
    flags_as("baseline", "format", "html", "sort", "spread", "title", "port")
    switches_as("", "watch")
    paths_as("runs")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="compare")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    compare(cfg)


def compare(cfg: DictConfig) -> None:
    """Print a table of runs; write a picture of their samples, and a page if ``html`` is given; or serve the page.

    Args:
        cfg: composed config of ``genlab compare``.

    Raises:
        InputError: if there are no runs, or the format, a figure or a column does not exist.
    """
    from genlab.comparison.formats import FORMATS, as_json, on_terminal
    from genlab.comparison.page import write_page
    from genlab.comparison.picture import write_picture
    from genlab.comparison.places import expanded
    from genlab.comparison.report import report_of
    from genlab.comparison.rereading import Reader
    from genlab.comparison.table import compared
    from genlab.comparison.watching import watch
    from genlab.composition.building import plain
    from genlab.composition.explaining import did_you_mean
    from genlab.errors import InputError
    from genlab.machine.outcome import tell

    config = plain(cfg, **TYPES)
    asked = {key: config[key] for key in ("figures", "sort", "spread", "baseline")}
    page_of: Callable[..., dict[str, Any]] = partial(report_of, **asked, command=_command, heading=config["title"])
    if config["watch"]:
        if config["html"] or config["format"] != "table":
            raise InputError("--watch serves the page and prints no table: leave out --html and --format, or --watch")
        watch(config["runs"], page_of, config["port"])
        return
    form = config["format"]
    if form not in ("table", *FORMATS):
        raise InputError(f"format={form}: no such format{did_you_mean(form, ['table', *FORMATS])}")
    runs = Reader(config["runs"]).runs()
    table = compared(runs, **asked)
    tell(table=json.loads(as_json(table)))
    if form == "table":
        on_terminal(table)
        first = Path(expanded(config["runs"])[0])
        target = Path(config["output"] or (first if first.is_dir() else Path()) / "comparison.png")
        if write_picture(table.rows, config["columns"], target):
            print(f"\npicture: {target}")
            tell(picture=str(target))
    else:
        print(FORMATS[form](table), end="")
    if config["html"]:
        write_page(page_of(runs), Path(config["html"]))
        tell(page=config["html"])
        print(f"page: {config['html']}", file=sys.stdout if form == "table" else sys.stderr)
