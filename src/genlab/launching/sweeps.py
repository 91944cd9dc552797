"""Hold the folder of a sweep while it runs; print a table at its end: which jobs are done, which failed, and why."""

from collections.abc import Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict

from genlab.errors import InputError
from genlab.launching.watched import watch

LOGS = "logs"  # folder of what jobs of parallel launchers print, inside that of the sweep
IN_TURN = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"

_folder: Path | None = None
_swept: set[str] = set()
_hold = ExitStack()


class _Refused(BaseException):
    """A refusal on its way past Hydra, which turns the exceptions of a callback into warnings."""


class Sweep(Callback):
    """A Hydra callback that checks and holds the folder of a sweep, and renames old groups in its params.

    If jobs run in processes of their own, it lets them be shown, in the sweep's process, and writes their logs, in
    theirs.
    """

    def on_multirun_start(self, config: DictConfig, **_: Any) -> None:
        from hydra.plugins.sweeper import Sweeper

        from genlab.launching.jobs_checked import check_jobs

        global _folder, _swept
        Sweeper.validate_batch_is_legal = check_jobs  # type: ignore[method-assign]
        _rename_swept_groups(config)
        folder = Path(config.hydra.sweep.dir)
        try:
            _swept = _swept_keys(config)
            _hold_folder(folder, config)
        except InputError as error:
            raise _Refused(str(error)) from error
        _folder = folder
        if is_parallel(config):
            watch(config)

    def on_job_start(self, config: DictConfig, **_: Any) -> None:
        from genlab.launching.job_log import begin_job_log

        if is_parallel(config):
            begin_job_log(config)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **_: Any) -> None:
        from genlab.launching.job_log import end_job_log

        if is_parallel(config):
            end_job_log(job_return)


def is_parallel(config: DictConfig) -> bool:
    """Tell whether a composed config is of a sweep whose launcher runs jobs in processes of their own."""
    return config.hydra.mode == RunMode.MULTIRUN and config.hydra.launcher.get("_target_") != IN_TURN


def _hold_folder(folder: Path, config: DictConfig) -> None:
    """Hold the folder of a sweep until the command ends; one that ``sweep.resume`` names must be there.

    Raises:
        InputError: if it is not there or is no sweep's, or if another process runs the sweep.
    """
    from genlab.composition.building import coerced
    from genlab.runs.folder import CONFIG
    from genlab.runs.lock import held

    if config.sweep.resume is not None:
        given = f"sweep.resume={config.sweep.resume}"
        if not folder.is_dir():
            raise InputError(f"{given}: there is no such folder; leave it out to begin a new sweep")
        if (folder / CONFIG).is_file():
            raise InputError(f"{given}: this is a run, not a sweep: genlab train resume={config.sweep.resume}")
        if not (folder / "multirun.yaml").is_file() and not any(folder.glob(f"*/{CONFIG}")):
            raise InputError(f"{given}: this is not the folder of a sweep: it has no multirun.yaml and no runs")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"the sweep's folder {folder} cannot be made: {error.strerror}") from error
    _hold.enter_context(held(folder, bool(coerced(config.get("force", False), bool, "force"))))


def _swept_keys(config: DictConfig) -> set[str]:
    """Find the keys that a sweep gives several values.

    Raises:
        InputError: if there are no values for a key, so that the sweep would have no jobs.
    """
    params: Any = OmegaConf.to_container(config.hydra.sweeper.get("params") or OmegaConf.create({}), resolve=False)
    told: Any = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    given = [*(f"{key}={value}" for key, value in params.items()), *told]
    # Given, because the names that glob(...) stands for are the config loader's to find.
    parser = OverridesParser.create(config_loader=GlobalHydra.instance().config_loader())
    swept = [override for override in parser.parse_overrides(given) if override.is_sweep_override()]
    for override in swept:
        if override.is_discrete_sweep() and next(iter(override.sweep_string_iterator()), None) is None:
            raise InputError(f"{override.input_line}: there is nothing to sweep over: it stands for no values")
    return {override.get_key_element() for override in swept}


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


def swept_folder() -> Path | None:
    """Give the folder of the sweep that ended last in this process; None if none has begun."""
    return _folder


@contextmanager
def finished() -> Iterator[None]:
    """Print the table when the sweep inside the context ends, with or without an error; do nothing for a single run.

    Raises:
        InputError: if the sweep is refused.
    """
    global _folder
    _folder = None
    try:
        yield
    except _Refused as refused:
        raise InputError(str(refused)) from None
    finally:
        _hold.close()
        if _folder is not None and _folder.is_dir():
            print_table(_folder, _swept)


def done_jobs(folder: Path, numbers: Iterable[int]) -> frozenset[int]:
    """Find the jobs of a sweep that are done, by their statuses.

    Args:
        folder: folder of the sweep.
        numbers: numbers of the jobs to look at.
    """
    from genlab.runs.folder import STATUS, RunFolder

    found = set()
    for num in numbers:
        with suppress(InputError, OSError):  # a damaged status is its job's to complain about
            if RunFolder(folder / str(num)).read_json(STATUS).get("status") == "done":
                found.add(num)
    return frozenset(found)


def print_table(folder: Path, swept: Collection[str] = ()) -> None:
    """Print one row per job: the overrides that not all jobs share, the best value, the status, why it failed.

    Args:
        folder: folder of the sweep.
        swept: keys whose overrides are printed even if all jobs share them, as those of ``seed=1,1`` do.
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

    out = console(stderr=True)
    runs = sorted(find_runs([folder]), key=lambda run: (len(run.path.name), run.path.name))
    if not runs:
        out.print(f"no job has begun; the same command with sweep.resume={folder} starts them", soft_wrap=True)
        return
    table = Table()
    for title in ("job", "overrides", "best", "status"):
        table.add_column(title, overflow="fold")
    counts: dict[str, int] = {}
    given = {run.path: read(run, STATUS) for run in runs}
    shared = set.intersection(*(set(status.get("overrides", [])) for status in given.values()))
    for run in runs:
        status = given[run.path]
        word = str(status.get("status", "unknown"))
        counts[word] = counts.get(word, 0) + 1
        best = (read(run, SUMMARY).get("monitor") or {}).get("best")
        table.add_row(
            run.path.name,
            " ".join(
                o
                for o in status.get("overrides", [])
                if o not in shared or o.partition("=")[0] in swept or len(runs) == 1
            ),
            "-" if best is None else f"{best:.4g}",
            f"{word}: {status['reason']}" if status.get("reason") else word,
        )
    out.print(table)
    words = ", ".join(f"{count} {word}" for word, count in sorted(counts.items()))
    again = "" if set(counts) <= {"done"} else f"; the same command with sweep.resume={folder} continues it"
    out.print(f"{words}: {folder}{again}", soft_wrap=True)
    if (folder / LOGS).is_dir():
        out.print(f"what job n printed: {folder / LOGS}/n.log", soft_wrap=True)
