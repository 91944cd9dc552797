"""``genlab compare FOLDER...``: one table and one picture of several runs, from their folders alone."""

import hydra
from omegaconf import DictConfig

from genlab.composition import conf_dir, one_line_errors, paths_as


def main() -> None:
    paths_as("runs")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="compare")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    compare(cfg)


def compare(cfg: DictConfig) -> None:
    """Print the table, and write the picture beside the runs."""
    from pathlib import Path

    from genlab.composition import plain
    from genlab.errors import InputError
    from genlab.runs.comparison import picture, read, table
    from genlab.runs.folder import find_runs
    from genlab.runs.pictures import save_png

    config = plain(cfg)
    missing = [path for path in config["runs"] if not Path(path).exists()]
    if missing:
        raise InputError(f"there is no {missing[0]}")
    rows = [read(folder) for folder in find_runs(config["runs"])]
    if not rows:
        raise InputError(f"there are no runs in {', '.join(map(str, config['runs']))}")
    table(rows)
    sheet = picture(rows, config["columns"])
    if sheet is not None:
        first = Path(config["runs"][0])
        target = Path(config["output"] or (first if first.is_dir() else Path()) / "comparison.png")
        save_png(sheet, target)
        print(f"\npicture: {target}")


if __name__ == "__main__":
    main()
