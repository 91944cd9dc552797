"""The files that describe a run, read and checked: whoever shows many runs must not fail because of one odd file.

Each class below lists the keys that genlab reads from a file, with the types that they must have. Other keys are kept
as they are.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, ValidationError

from genlab.errors import InputError
from genlab.runs.config import read_config
from genlab.runs.folder import CONFIG, EVALUATION, METRICS, STATUS, SUMMARY, RunFolder

_LARGEST = 2**63  # what no count or seed of genlab exceeds; a float cannot take just any whole number
_SHOWN = 60  # characters of a wrong value in a message


class _Record(BaseModel):
    """What a file must hold; a key without a default must be there."""

    model_config = ConfigDict(strict=True)


class _Config(_Record):
    seed: int | None = None
    run_dir: str = ""
    run_id: str = ""
    choices: dict[str, Any] | None = None
    paths: dict[str, Any] | None = None
    logger: dict[str, Any] | None = None
    callbacks: dict[str, Any] | None = None


class _Status(_Record):
    status: str = ""
    reason: str | None = None
    command: str | None = None
    overrides: list[str] = []


class _Result(_Record):
    value: float
    protocol: dict[str, Any]
    unit: str | None = None
    std: float | None = None
    standard_error: float | None = None
    warning: str | None = None


class _Figure(_Record):
    label: str = ""
    better: Literal["min", "max"] | None = None
    protocol: list[str] = []
    unit: str | None = None
    column: int | None = None
    curve: int | None = None
    live: bool = False


class _Monitor(_Record):
    best: float | None = None


class _Environment(_Record):
    versions: dict[str, Any] | None = None


class _Speed(_Record):
    unit: str = "images/s"
    per_image: int = 1


class _Summary(_Record):
    metrics: dict[str, _Result] = {}
    figures: dict[str, _Figure] = {}
    monitor: _Monitor | None = None
    environment: _Environment | None = None
    parameters: int = 0
    images_seen: int = 0
    epochs: int | None = None
    images_per_second: FiniteFloat | None = None
    speed: _Speed | None = None
    wall_seconds: FiniteFloat = 0.0
    cpu_seconds: FiniteFloat | None = None
    peak_memory_mb: FiniteFloat | None = None


class _Evaluation(_Record):
    metrics: dict[str, _Result] = {}
    figures: dict[str, _Figure] = {}


KINDS: dict[str, type[_Record]] = {CONFIG: _Config, STATUS: _Status, SUMMARY: _Summary, EVALUATION: _Evaluation}


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
    if any(abs(number) > _LARGEST for number in _numbers(content)):
        raise InputError(f"{path} is damaged (a number in it has more than 18 digits)")
    try:
        KINDS[name].model_validate(content)
    except ValidationError as error:
        wrong = error.errors(include_url=False)[0]
        key = ".".join(map(str, wrong["loc"]))
        value = repr(wrong["input"])
        shown = value if len(value) <= _SHOWN else value[: _SHOWN - 3] + "..."
        raise InputError(f"{path} is damaged ({key}={shown}: {wrong['msg'][0].lower()}{wrong['msg'][1:]})") from None


def _numbers(node: Any) -> Iterator[int]:
    """Iterate over the whole numbers in nested values."""
    if isinstance(node, Mapping):
        node = node.values()
    if isinstance(node, int):
        yield node
    elif isinstance(node, Iterable) and not isinstance(node, str):
        for value in node:
            yield from _numbers(value)


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
