"""The files that describe a run, read and checked: whoever shows many runs must not fail because of one odd file.

Each class below lists the keys that genlab reads from a file, with the types that they must have. Other keys are kept
as they are.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypedDict

from pydantic import ConfigDict, FiniteFloat, TypeAdapter, ValidationError

from genlab.errors import InputError
from genlab.runs.config import read_config
from genlab.runs.folder import CONFIG, EVALUATION, METRICS, STATUS, SUMMARY, RunFolder

_SHOWN = 60  # characters of a wrong value in a message


class _Config(TypedDict, total=False):
    seed: int | None
    run_dir: str
    run_id: str
    choices: dict[str, Any] | None
    paths: dict[str, Any] | None
    logger: dict[str, Any] | None
    callbacks: dict[str, Any] | None


class _Status(TypedDict, total=False):
    status: str
    reason: str | None
    command: str | None
    overrides: list[str]


class _Result(TypedDict, total=False):
    value: float
    protocol: dict[str, Any]
    unit: str | None
    std: float | None
    standard_error: float | None
    warning: str | None


class _Figure(TypedDict, total=False):
    label: str
    better: Literal["min", "max"] | None
    protocol: list[str]
    unit: str | None
    column: int | None
    curve: int | None
    live: bool


class _Monitor(TypedDict, total=False):
    best: float | None


class _Environment(TypedDict, total=False):
    versions: dict[str, Any] | None


class _Summary(TypedDict, total=False):
    metrics: dict[str, _Result]
    figures: dict[str, _Figure]
    monitor: _Monitor | None
    environment: _Environment | None
    parameters: int
    images_seen: int
    epochs: int | None
    images_per_second: FiniteFloat | None
    wall_seconds: FiniteFloat
    peak_memory_mb: FiniteFloat | None


class _Evaluation(TypedDict, total=False):
    metrics: dict[str, _Result]
    figures: dict[str, _Figure]


KINDS: dict[str, Any] = {CONFIG: _Config, STATUS: _Status, SUMMARY: _Summary, EVALUATION: _Evaluation}


@cache
def _adapter(name: str) -> TypeAdapter[Any]:
    return TypeAdapter(KINDS[name], config=ConfigDict(strict=True))


def read_record(folder: RunFolder, name: str) -> dict[str, Any]:
    """Read ``config.yaml``, ``status.json``, ``summary.json`` or ``evaluation.json`` and check the keys genlab reads.

    Args:
        folder: folder of the run.
        name: name of the file; a missing JSON file gives an empty dict.

    Raises:
        InputError: if the file cannot be read, or a value in it is not what genlab writes there.
    """
    try:
        content = read_config(folder) if name == CONFIG else folder.read_json(name)
    except (OSError, RecursionError) as error:
        raise InputError(f"{folder.path / name} cannot be read ({error})") from error
    check_record(content, name, folder.path / name)
    return content


def check_record(content: Mapping[str, Any], name: str, path: Path) -> None:
    """Check the types of the values of a file that genlab reads.

    Args:
        content: content of the file.
        name: name of the file, which says what it must hold.
        path: path of the file, for the error message.

    Raises:
        InputError: if a value has another type than genlab writes.
    """
    try:
        _adapter(name).validate_python(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        key = ".".join(map(str, wrong["loc"]))
        value = repr(wrong["input"])
        shown = value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "..."
        raise InputError(f"{path} is damaged ({key}={shown}: {wrong['msg'][0].lower()}{wrong['msg'][1:]})") from None


def check_metrics(folder: RunFolder) -> None:
    """Check that ``metrics.csv`` is a text with the column ``images_seen``, if there is one.

    Args:
        folder: folder of the run.

    Raises:
        InputError: if it is not.
    """
    path = folder.path / METRICS
    try:
        text = path.read_bytes().decode("utf-8")
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path} cannot be read ({error})") from error
    if "\0" in text:
        raise InputError(f"{path} is damaged (it has bytes that are 0)")
    if text and "images_seen" not in text.partition("\n")[0].rstrip("\r").split(","):
        raise InputError(f"{path} is damaged (it has no column images_seen)")
