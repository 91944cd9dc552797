"""Print a table at the end of a sweep: which jobs are done, which failed, and why."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict

from genlab.errors import InputError

_folder: Path | None = None


class Sweep(Callback):
    """A Hydra callback that remembers the folder of a sweep when it begins, and renames old groups in its params."""

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        global _folder
        _folder = Path(config.hydra.sweep.dir)
        _rename_swept_groups(config)


def _rename_swept_groups(config: DictConfig) -> None:
    """Replace old names of groups in ``hydra.sweeper.params``, which an experiment's config may set."""
    from genlab.composition.renamed_groups import say_new_names

    params = config.hydra.sweeper.get("params")
    values: Any = OmegaConf.to_container(params, resolve=False) if params else {}
    old = [f"{key}={value}" for key, value in values.items()]
    new = say_new_names(old)
    if new != old:
        keys = [override.partition("=")[0] for override in new]
        with open_dict(config):
            config.hydra.sweeper.params = dict(zip(keys, values.values(), strict=True))


@contextmanager
def finished() -> Iterator[None]:
    """Print the table when the sweep inside the context ends, with or without an error; do nothing for a single run."""
    global _folder
    _folder = None
    try:
        yield
    finally:
        if _folder is not None and _folder.is_dir():
            print_table(_folder)


def print_table(folder: Path) -> None:
    """Print one row per job: the overrides that not all jobs share, the best value, the status, why it failed.

    Args:
        folder: folder of the sweep.
    """
    from rich.table import Table

    from genlab.machine.console import console
    from genlab.runs.folder import STATUS, SUMMARY, RunFolder, find_runs
    from genlab.runs.records import read_record

    def read(run: RunFolder, name: str) -> dict[str, Any]:
        try:
            return read_record(run, name)
        except InputError as error:  # a damaged job does not hide the others
            return {"status": "damaged", "reason": str(error)} if name == STATUS else {}

    runs = sorted(find_runs([folder]), key=lambda run: (len(run.path.name), run.path.name))
    table = Table()
    for title in ("job", "overrides", "best", "status"):
        table.add_column(title, overflow="fold")
    counts: dict[str, int] = {}
    given = {run.path: read(run, STATUS) for run in runs}
    shared = set.intersection(*(set(status.get("overrides", [])) for status in given.values())) if runs else set()
    for run in runs:
        status = given[run.path]
        word = str(status.get("status", "unknown"))
        counts[word] = counts.get(word, 0) + 1
        best = (read(run, SUMMARY).get("monitor") or {}).get("best")
        table.add_row(
            run.path.name,
            " ".join(o for o in status.get("overrides", []) if o not in shared or len(runs) == 1),
            "-" if best is None else f"{best:.4g}",
            f"{word}: {status['reason']}" if status.get("reason") else word,
        )
    out = console(stderr=True)
    out.print(table)
    words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    again = "" if set(counts) <= {"done"} else f"; the same command with sweep.resume={folder} continues it"
    out.print(f"{words}: {folder}{again}", soft_wrap=True)
