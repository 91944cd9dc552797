"""``genlab compare FOLDER...``: compare runs, reading nothing but their folders."""

import shlex
import sys
from typing import Literal

import hydra
from omegaconf import DictConfig

from genlab.composition.command_line import flags_as, paths_as
from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors

TYPES = {
    "figures": list[str] | None,
    "sort": str | None,
    "columns": int,
    "html": str | None,
    "format": str,
    "spread": Literal["std", "sem"],
}


_command = "genlab compare"  # the user's command line, which the page shows


def main() -> None:
    """Run the command on this process's command line, with flags and paths rewritten as Hydra's overrides."""
    global _command
    _command = shlex.join(["genlab", "compare", *sys.argv[1:]])
    flags_as("format", "html", "sort", "spread", "title")
    paths_as("runs")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="compare")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    compare(cfg)


def compare(cfg: DictConfig) -> None:
    """Print a table of runs; write a picture of their samples, and a page if ``html`` is given.

    Args:
        cfg: composed config of ``genlab compare``.

    Raises:
        InputError: if there are no runs, or the format, a figure or a column does not exist.
    """
    import json
    from pathlib import Path

    from genlab.comparison.formats import FORMATS, as_json, on_terminal
    from genlab.comparison.picture import picture
    from genlab.comparison.places import expanded
    from genlab.comparison.runs import read_run
    from genlab.comparison.table import compared
    from genlab.composition.building import plain
    from genlab.composition.explaining import did_you_mean
    from genlab.errors import InputError
    from genlab.machine.outcome import tell
    from genlab.pictures.files import save_png
    from genlab.runs.folder import find_runs

    config = plain(cfg, **TYPES)
    form, places = config["format"], expanded(config["runs"])
    if form not in ("table", *FORMATS):
        raise InputError(f"format={form}: no such format{did_you_mean(form, ['table', *FORMATS])}")
    runs = [read_run(folder) for folder in find_runs(places)]
    if not runs:
        raise InputError(f"there are no runs in {', '.join(map(str, config['runs']))}")
    table = compared(runs, config["figures"], config["sort"], config["spread"])
    tell(table=json.loads(as_json(table)))
    if form == "table":
        on_terminal(table)
        first = Path(places[0])
        target = Path(config["output"] or (first if first.is_dir() else Path()) / "comparison.png")
        if (sheet := picture(table.rows, config["columns"])) is not None:
            save_png(sheet, target)
            print(f"\npicture: {target}")
            tell(picture=str(target))
    else:
        print(FORMATS[form](table), end="")
    if config["html"]:
        from genlab.comparison.page import write_page
        from genlab.comparison.report import report

        everything = compared(runs, config["figures"] or ["all"], config["sort"], config["spread"])
        page = Path(config["html"])
        tell(page=str(page))
        write_page(report(everything, _command, config["title"]), page)
        print(f"page: {page}", file=sys.stdout if form == "table" else sys.stderr)


if __name__ == "__main__":
    main()
