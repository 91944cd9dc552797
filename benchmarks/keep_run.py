"""Keep the folder of a finished run for a table of a page: its config, status and results, without its weights.

    python benchmarks/keep_run.py RUN TARGET

Paths of the machine become relative. genlab compare and the blocks <!-- runs: ... --> of pages read TARGET.
"""

import argparse
from pathlib import Path

from omegaconf import OmegaConf

from genlab.errors import InputError
from genlab.machine.files import write_atomically
from genlab.reproduction.writing import portable
from genlab.runs.config import read_config
from genlab.runs.folder import CONFIG, STATUS, SUMMARY, RunFolder


def keep(run: RunFolder, target: Path) -> None:
    """Copy what a table needs of a finished run to another folder.

    Args:
        run: folder of the run.
        target: folder to make.

    Raises:
        InputError: if the run is not done.
    """
    status = run.read_json(STATUS)
    if status.get("status") != "done":
        raise InputError(f"{run.path} is {status.get('status')}, and only a finished run is kept")
    target.mkdir(parents=True, exist_ok=True)
    config = portable(read_config(run), run)
    write_atomically(target / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
    kept = RunFolder(target)
    kept.write_json(STATUS, {key: value for key, value in status.items() if key not in ("pid", "host")})
    kept.write_json(SUMMARY, run.read_json(SUMMARY))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("target", type=Path)
    arguments = parser.parse_args()
    keep(RunFolder.open(arguments.run), arguments.target)


if __name__ == "__main__":
    main()
