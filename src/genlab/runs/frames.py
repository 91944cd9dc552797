"""What a run has logged, as a pandas DataFrame."""

from typing import Any

from genlab.errors import InputError
from genlab.runs.folder import METRICS, RunFolder


def logged(folder: RunFolder) -> Any:
    """Read a run's ``metrics.csv`` as a DataFrame: a row each time something was logged, a column per figure.

    Args:
        folder: folder of the run.

    Raises:
        InputError: if pandas is not installed, or the run has logged nothing.
    """
    pandas = with_pandas("metrics")
    path = folder.path / METRICS
    if not path.is_file():
        raise InputError(f"{folder.path} has no {METRICS}: it has logged nothing")
    return pandas.read_csv(path)


def with_pandas(what: str) -> Any:
    """Import pandas, which few commands need.

    Args:
        what: what needs it, for the error message.

    Raises:
        InputError: if it is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise InputError(f"{what} needs pandas, which is not installed: pip install 'genlab[pandas]'") from error
    return pandas
