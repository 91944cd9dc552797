"""The commands of genlab as functions of Python: they take overrides and keywords, and give objects and tables.

Overrides are those of the command line, as texts (``"model.latent_dim=8"``) or as keywords, in which two underscores
stand for a dot (``model__latent_dim=8``). What a command prints goes to standard error, so that standard output is the
caller's. A wrong input raises :class:`genlab.errors.InputError`, a ``ValueError`` with one line.

The examples below train on 200 small images of digits; each takes seconds.
"""

import sys
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pytorch_lightning import Callback
    from pytorch_lightning.loggers.logger import Logger

    from genlab.evaluating.evaluated import Evaluated
    from genlab.reproduction.records import Record
    from genlab.runs.loading import Run
    from genlab.views.view import Shown


def train(
    *overrides: str, callbacks: "Sequence[Callback]" = (), loggers: "Sequence[Logger]" = (), **keys: Any
) -> "Run":
    """Train a model and measure it, as ``genlab train`` does.

    Args:
        *overrides: overrides as on the command line.
        callbacks: Lightning's callbacks beside those of the config. They see the whole training, of which the run's
            status names their classes, as its config does not.
        loggers: Lightning's loggers beside those of the config.
        **keys: further overrides by keyword.

    Returns:
        The finished run.

    Raises:
        InputError: if an override is wrong.

    Examples:
        >>> import genlab
        >>> run = genlab.train(
        ...     "model.networks.hidden=[16]", model="vae/vae", dataset="digits", dataset__train_size=200,
        ...     trainer__max_epochs=1, metrics__num_samples=80, logger="csv", callbacks=[],
        ... )
        >>> run.model.sample(3).shape
        torch.Size([3, 1, 8, 8])
        >>> sorted(run.figures)[:2]
        ['test/active_units', 'test/aggregate_gap']
        >>> run.figures["test/fid"].protocol["num_samples"]
        80
    """
    from genlab.commands.called import launch
    from genlab.composition.keywords import as_overrides
    from genlab.launching.objects import Objects

    with _quiet():
        return launch(*overrides, *as_overrides(keys), objects=Objects(callbacks, loggers))


def sweep(*overrides: str, **keys: Any) -> "list[Run]":
    """Train a run for each combination of values, as ``genlab train -m`` does.

    Args:
        *overrides: overrides as on the command line, of which some have several values: ``"seed=1,2"``.
        **keys: further overrides by keyword, of one value each.

    Returns:
        The runs of all jobs in their order, in whatever state they are; ``run.status`` says in which.

    Raises:
        InputError: if an override is wrong, or a job failed; the other jobs have run.

    Examples:
        >>> import genlab
        >>> runs = genlab.sweep("seed=1,2", model__networks__hidden=[16], logger="csv", debug="limit")
        >>> [run.config["seed"] for run in runs], {run.status for run in runs}
        ([1, 2], {'done'})
    """
    from genlab.commands.called import sweep_folder
    from genlab.composition.keywords import as_overrides

    with _quiet():
        return runs(sweep_folder([*overrides, *as_overrides(keys)]))


def evaluate(run: "str | Path | Run", *overrides: str, **keys: Any) -> "list[Evaluated]":
    """Measure a run, as ``genlab evaluate`` does, which also writes the figures to the run's ``evaluation.json``.

    Args:
        run: folder of the run, or an opened run.
        *overrides: overrides as on the command line; ``"sampling.num_steps=4,8"`` makes an evaluation for each value.
        **keys: further overrides by keyword.

    Returns:
        An evaluation for each kind of weights and each combination of sampling settings.

    Raises:
        InputError: if the run cannot be opened or measured.

    Examples:
        >>> import genlab
        >>> run = genlab.train(model__networks__hidden=[16], logger="csv", debug="limit")
        >>> (found,) = genlab.evaluate(run, metrics__num_samples=80, metrics__importance_samples=None)
        >>> found.figures["test/nll"].value > 0
        True
    """
    from genlab.commands.evaluate import evaluate as command
    from genlab.composition.command_line import with_lists
    from genlab.composition.from_python import composed_by
    from genlab.composition.keywords import as_overrides

    words = [*as_overrides({"run": _path(run)}), *with_lists("sampling.", overrides), *as_overrides(keys)]
    with _quiet():
        return command(composed_by("evaluate", words))


def sample(run: "str | Path | Run", *overrides: str, **keys: Any) -> "Shown | list[str]":
    """Draw samples, or look at a run in another way, as ``genlab sample`` does; nothing is written.

    Args:
        run: folder of the run, or an opened run.
        *overrides: overrides as on the command line, such as ``"mode=interpolate"``.
        **keys: further overrides by keyword, such as ``n=16``.

    Returns:
        The picture with the values that it shows; ``picture.save(path)`` writes it. For a model of text, the texts.

    Raises:
        InputError: if the run cannot be opened, or an option does not apply to its model or data.

    Examples:
        >>> import genlab
        >>> run = genlab.train(model__networks__hidden=[16], logger="csv", debug="limit")
        >>> shown = genlab.sample(run, n=4, seed=1)
        >>> shown.samples.shape, shown.picture.mode
        (torch.Size([4, 1, 8, 8]), 'RGB')
    """
    from genlab.composition.from_python import composed_by
    from genlab.composition.keywords import as_overrides
    from genlab.views.opening import opened
    from genlab.views.write import Write

    with _quiet():
        words = [*as_overrides({"run": _path(run)}), *overrides, *as_overrides(keys)]
        found, way, _ = opened(composed_by("sample", words))
        return way.texts(found) if isinstance(way, Write) else way.show(found)


def export(run: "str | Path | Run", *overrides: str, **keys: Any) -> Path:
    """Write a run as a folder that opens by itself, as ``genlab export`` does.

    Args:
        run: folder of the run, or an opened run.
        *overrides: overrides as on the command line.
        **keys: further overrides by keyword, such as ``form=["safetensors", "onnx"]``.

    Returns:
        The folder, which :func:`genlab.load` opens.

    Raises:
        InputError: if the run cannot be opened, lacks a form that was asked for, or would overwrite something.

    Examples:
        >>> import genlab
        >>> run = genlab.train(model__networks__hidden=[16], logger="csv", debug="limit")
        >>> folder = genlab.export(run)
        >>> genlab.load(folder).model.sample(2).shape
        torch.Size([2, 1, 8, 8])
    """
    from genlab.commands.export import export as command
    from genlab.composition.from_python import composed_by
    from genlab.composition.keywords import as_overrides

    with _quiet():
        return command(composed_by("export", [*as_overrides({"run": _path(run)}), *overrides, *as_overrides(keys)]))


def compare(
    *places: "str | Path | Run",
    figures: Sequence[str] | None = None,
    sort: str | None = None,
    spread: Literal["std", "sem"] = "std",
    baseline: "str | Path | Run | None" = None,
) -> Any:
    """Compare runs by their folders alone, as ``genlab compare`` does.

    Args:
        *places: folders of runs, folders that contain runs, glob patterns, or opened runs.
        figures: names of the figures, such as ``fid``; ``["all"]`` for all, None for the usual ones.
        sort: column to sort by, best first; with a minus (``-fid``), worst first.
        spread: what the table's texts have after ±; the frame has the standard deviation in any case.
        baseline: setting that the others are compared with: keys and values such as ``"model=vae/vae"``, a value alone,
            a run or its folder, or ``"published"``; None compares the best setting with the others.

    Returns:
        A pandas DataFrame with a row per setting; see :func:`genlab.comparison.frame.frame` for its columns, and for
        what the seeds say about the differences.

    Raises:
        InputError: if there are no runs, a figure or column does not exist, or pandas is not installed.

    Examples:
        >>> import genlab
        >>> runs = genlab.sweep("seed=1,2", model__networks__hidden=[16], logger="csv", debug="limit")
        >>> table = genlab.compare(*runs, figures=["nll"])
        >>> len(table), int(table["test/nll n"][0]), bool(table["test/nll std"][0] > 0)
        (1, 2, True)
        >>> wider = genlab.sweep("seed=1,2", model__networks__hidden=[64], logger="csv", debug="limit")
        >>> table = genlab.compare(*runs, *wider, figures=["nll"], baseline=runs[0])
        >>> [one["against"] for one in table.attrs["decisions"]]
        ['model.networks.hidden=[16]']
    """
    from genlab.comparison.frame import frame
    from genlab.comparison.places import expanded
    from genlab.comparison.runs import read_run
    from genlab.comparison.table import compared
    from genlab.errors import InputError
    from genlab.runs.folder import find_runs

    given = [_path(place) for place in places]
    found = [read_run(folder) for folder in find_runs(expanded(given))]
    if not found:
        raise InputError(f"there are no runs in {', '.join(given) or 'nothing'}")
    return frame(compared(found, figures, sort, spread, None if baseline is None else _path(baseline)))


def reproduce(
    *recipes: str, seeds: int = 3, again: bool = False, budget: str | None = None, threads: int = 1,
    results: str | Path = "results", outputs: str | Path | None = None,
) -> "dict[str, list[Record]]":  # fmt: skip
    """Run the experiments that reproduce published figures, as ``genlab reproduce`` does, and give their records.

    Args:
        *recipes: names of recipes, and overrides such as ``"trainer=gpu"``.
        seeds: number of seeds, from 0 on; with none, the records are only read.
        again: whether to run seeds that have a record, too, and replace it.
        budget: time for everything, such as ``"90m"``.
        threads: threads of the CPU.
        results: folder of the records.
        outputs: folder of the runs; None for the usual one.

    Returns:
        The records of each recipe, those of earlier calls included.

    Raises:
        InputError: if a recipe does not exist, or an override is wrong.

    Examples:
        >>> import genlab
        >>> genlab.reproduce("exact_ring2d", seeds=0)
        {'exact_ring2d': []}
    """
    from argparse import Namespace

    from genlab.commands.reproduce import reproduce as command
    from genlab.reproduction.recipes import named
    from genlab.reproduction.records import records_of

    options = Namespace(
        names=list(recipes), list=False, check=False, table=False, retrain=False, seeds=seeds, again=again,
        budget=budget, threads=threads, results=Path(results), outputs=None if outputs is None else Path(outputs),
    )  # fmt: skip
    if seeds:
        with _quiet():
            command(options)
    chosen = named([word for word in recipes if "=" not in word])
    return {recipe.name: records_of(recipe.name, Path(results)) for recipe in chosen}


def runs(folder: str | Path = "outputs", trust: str | Collection[str] = ()) -> "list[Run]":
    """Open all runs at or below a folder, job 10 after job 9; one that cannot be opened is named on standard error.

    Args:
        folder: folder to search.
        trust: modules whose code the configs may name, see :func:`genlab.load`.

    Raises:
        InputError: if there is no such folder.

    Examples:
        >>> import genlab
        >>> run = genlab.train(model__networks__hidden=[16], logger="csv", debug="limit", paths__output_dir="few")
        >>> [found.status for found in genlab.runs("few")]
        ['done']
        >>> list(run.metrics.columns[:2])
        ['images_seen', 'seconds']
    """
    from genlab.errors import InputError
    from genlab.runs.folder import find_runs
    from genlab.runs.loading import load

    if not Path(folder).is_dir():
        raise InputError(f"there is no folder {folder}")
    found = []
    for one in find_runs([folder]):
        try:
            found.append(load(one.path, trust=trust))
        except InputError as error:
            print(f"genlab: not opened: {error}", file=sys.stderr)
    return found


def _path(place: "str | Path | Run") -> str:
    from genlab.runs.loading import Run

    return str(place.folder.path if isinstance(place, Run) else place)


@contextmanager
def _quiet() -> Iterator[None]:
    """Let what commands print go to standard error."""
    with redirect_stdout(sys.stderr):
        yield
