"""Measuring a model on its data with a progress bar, and showing the figures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

from genlab.data.images import ImageDataModule
from genlab.metrics.features import FeatureExtractor
from genlab.metrics.measure import Result, SampleQuality, likelihood
from genlab.models.base import GenerativeModel, LikelihoodModel
from genlab.runs.console import console


@contextmanager
def with_progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """A bar with the time left on a terminal; nothing elsewhere."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    terminal = console(stderr=True)
    with Progress(*columns, console=terminal, transient=True, disable=not terminal.is_terminal) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)


def measure(
    model: GenerativeModel,
    data: ImageDataModule,
    features: FeatureExtractor,
    samples: Tensor,
    *,
    num_test: int | None,
    seed: int,
    protocol: dict[str, Any],
) -> dict[str, Result]:
    """The likelihood of the test set where the model has one, and the quality of samples.

    Args:
        samples: of the model, drawn with ``seed``.
        num_test: images of the test set that the likelihood is taken of; ``None`` for all.
        protocol: which checkpoint and weights ``model`` holds; joins each result's own.
    """
    results: dict[str, Result] = {}
    if isinstance(model, LikelihoodModel):
        with with_progress("test likelihood", num_test or len(data.splits["test"])) as advance:
            results |= likelihood(model, data, num=num_test, seed=seed, advance=advance)
    results["test/frechet_distance"] = SampleQuality(data, features).result(samples, model, seed=seed)
    for result in results.values():
        result["protocol"] |= protocol
    return results


def print_figures(figures: dict[str, Result], more: dict[str, str]) -> None:
    """A table of results, then of whatever else is to be known."""
    from rich.table import Table

    table = Table(box=None, show_header=False, padding=(0, 2))
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for name, result in figures.items():
        error = f" ± {result['standard_error']:.2g}" if "standard_error" in result else ""
        bound = " (bound)" if result["protocol"].get("likelihood") == "lower_bound" else ""
        table.add_row(name, f"{result['value']:.4f}{error} {result.get('unit', '')}{bound}")
    for name, value in more.items():
        table.add_row(name, value)
    console().print(table)
