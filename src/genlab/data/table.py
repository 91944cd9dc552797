"""Any table of numbers as points, from a CSV, Parquet or NumPy file."""

import csv
import io
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.data.batches import Transform
from genlab.data.examples import Examples, Split
from genlab.data.points import PointDataModule
from genlab.errors import InputError


class Table:
    """Source of the rows of a file as float64 points ``(N, D)``; every cell must be a finite number.

    Rows and columns are counted from 1. The first row of a CSV file is a header if none of its cells is a number; a
    header does not count as a row.

    Args:
        path: path of a ``.csv``, ``.tsv`` or ``.txt`` file (separated by tabs, semicolons, commas or spaces, whichever
            of these comes first in this list and occurs in the first line), a ``.parquet`` file, a ``.npy`` file with
            an array ``(N, D)``, or a ``.npz`` file with one such array.
        columns: names or numbers of the columns to take, in this order; ``None`` for all.

    Raises:
        InputError: if ``columns`` is empty.
    """

    def __init__(self, path: str, columns: Sequence[str | int] | None = None) -> None:
        if columns is not None and len(columns) == 0:
            raise InputError("columns=[]: name at least one, or null for all")
        self.path, self.columns = Path(path).expanduser(), columns

    def load(self) -> dict[Split, Examples]:
        """Read the file.

        Raises:
            InputError: if the file cannot be read, or a cell is not a finite number.
        """
        if not self.path.is_file():
            raise InputError(f"there is no file {self.path}: give a table as dataset.source.path=...")
        read = READERS.get(self.path.suffix.lower())
        if read is None:
            raise InputError(f"{self.path} is no table: {', '.join(READERS)} are read")
        values = self._chosen(read(self.path))
        return {"train": Examples(torch.from_numpy(values), torch.zeros(len(values), dtype=torch.long))}

    def _chosen(self, read: "Columns") -> np.ndarray:
        """Give the chosen columns as float64 ``(N, D)``."""
        names = read.names
        if not names or not len(read.cells[0]):
            raise InputError(f"{self.path} has no rows")
        chosen = []
        for column in range(1, len(names) + 1) if self.columns is None else self.columns:
            if column in names and isinstance(column, str):
                chosen.append(names.index(column))
            elif isinstance(column, int) and 1 <= column <= len(names):
                chosen.append(column - 1)
            else:
                raise InputError(f"columns: {self.path} has no column {column}; it has {', '.join(names)}")
        return np.stack([self._numbers(names[i], read.cells[i]) for i in chosen], 1)

    def _numbers(self, name: str, cells: Sequence[Any]) -> np.ndarray:
        """Convert the cells of a column to float64 ``(N,)``."""
        values = np.asarray(cells)
        try:
            # As text, which fails: NumPy would turn a date into a number of days.
            numbers = (values.astype(str) if values.dtype.kind in "mM" else values).astype(np.float64)
        except (ValueError, TypeError):
            numbers = np.array([_number(cell) for cell in cells])
        if not (finite := np.isfinite(numbers)).all():
            row = int(np.argmin(finite))
            cell = "" if cells[row] is None else str(cells[row]).strip()
            raise InputError(
                f"{self.path}: row {row + 1}, column {name} is {cell or 'empty'}, not a number; mend it, or name the "
                "columns to take as dataset.source.columns=[...]"
            )
        return numbers


class TableDataModule(PointDataModule):
    """Data set of the rows of a table, standardised by the mean and standard deviation of the training rows.

    Models see, sample and score standardised values. The log-density of the original values is lower by the sum of the
    logarithms of the standard deviations.

    Args:
        source: source of the rows.
        name: name of the data set.
        shape: shape ``(D,)`` of a row.
        standardize: whether to standardise the values; ``False`` leaves them unchanged.
        **options: arguments of :class:`~genlab.data.module.DataModule`.

    Attributes:
        mean: mean of the training rows, float64 ``(D,)``; 0 if values are not standardised.
        std: standard deviation of the training rows, float64 ``(D,)``; 1 if values are not standardised.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, source: Table, name: str, shape: tuple[int], standardize: bool = True, **options: Any) -> None:
        super().__init__(source, name, shape, **options)
        self.standardize = standardize

    @property
    def protocol(self) -> dict[str, object]:
        protocol = {**super().protocol, "standardized": "by the training rows" if self.standardize else "no"}
        if self.splits:  # all tables have the same data set name; the hash tells them apart
            protocol["test_sha256"] = self._test_sha256
        return protocol

    def setup(self, stage: str | None = None) -> None:
        if self.splits:
            return
        super().setup(stage)
        rows = self.splits["train"].images
        assert rows is not None
        self.mean, self.std = rows.mean(0), rows.std(0)
        if not self.standardize:
            self.mean, self.std = torch.zeros_like(self.mean), torch.ones_like(self.std)
        test = self.first("test")
        self._test_sha256 = Examples(test, torch.zeros(len(test))).fingerprint()

    def check(self, split: Split, examples: Examples) -> None:
        super().check(split, examples)
        rows = examples.images
        assert rows is not None
        if split == "train" and (constant := (rows == rows[0]).all(0)).any():
            raise InputError(
                f"dataset {self.name}: column {int(constant.nonzero()[0]) + 1} of {rows.shape[1]} is the same in every "
                "training row, and has no density; leave it out by dataset.source.columns=[...]"
            )

    def transform(self, split: Split, augment: bool = True) -> Transform:
        return Standardized(self.mean, self.std)


class Standardized:
    """Transform from float64 rows to standardised float32 points.

    Args:
        mean: values to subtract, float64 ``(D,)``.
        std: values to divide by, float64 ``(D,)``.
    """

    def __init__(self, mean: Tensor, std: Tensor) -> None:
        self.mean, self.std = mean, std

    def __call__(self, rows: Tensor, index: Tensor, epoch: int) -> Tensor:
        return ((rows - self.mean.to(rows.device)) / self.std.to(rows.device)).float()


# -- files -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Columns:
    """Columns of a file: their names, and the cells of each, of any type."""

    names: list[str]
    cells: list[Sequence[Any]]


def read_csv(path: Path) -> Columns:
    """Read a table in text form, with or without a header.

    Raises:
        InputError: if the file is not a table in UTF-8, or its rows differ in length.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        separator = next((sign for sign in "\t;," if sign in first), " ")
        rows = [row for row in csv.reader(io.StringIO(text), delimiter=separator, skipinitialspace=True) if row]
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as a table in UTF-8 ({error})") from error
    if not rows:
        return Columns([], [])
    width = len(rows[0])
    header = [""] * width if any(map(_is_number, rows[0])) else rows.pop(0)
    names = [cell.strip() or str(i + 1) for i, cell in enumerate(header)]
    for i, row in enumerate(rows):
        if len(row) != width:
            raise InputError(f"{path}: row {i + 1} has {len(row)} cells, and the table has {width} columns")
    return Columns(names, list(zip(*rows, strict=True)) if rows else [[] for _ in names])


def read_parquet(path: Path) -> Columns:
    """Read a Parquet file.

    Raises:
        InputError: if the file cannot be read, or pyarrow is not installed.
    """
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path} is read by pyarrow, which is not installed: pip install 'genlab[table]'") from error
    try:
        table = parquet.read_table(path)
    except (pyarrow.ArrowException, OSError) as error:
        raise InputError(f"{path} cannot be read as Parquet ({str(error).splitlines()[0]})") from error
    return Columns(table.column_names, [_as_array(column) for column in table.columns])


def _as_array(column: Any) -> Sequence[Any]:
    """Give the values of a Parquet column; missing ones become ``None``, which is later refused as not a number."""
    return column.to_numpy() if column.null_count == 0 else column.to_pylist()


def read_array(path: Path) -> Columns:
    """Read a NumPy file with one array ``(N, D)``.

    Raises:
        InputError: if the file cannot be read, or does not hold exactly one such array.
    """
    try:
        loaded = np.load(path, allow_pickle=False)
        arrays = {path.name: loaded} if isinstance(loaded, np.ndarray) else dict(loaded)
    except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
        raise InputError(f"{path} cannot be read as NumPy's ({str(error).splitlines()[0]})") from error
    if len(arrays) != 1:
        raise InputError(f"{path} has the arrays {', '.join(arrays) or 'none'}: give a file with one, (rows, columns)")
    (array,) = arrays.values()
    if array.ndim != 2 or array.dtype.kind == "c":
        raise InputError(f"{path} is an array {list(array.shape)} of {array.dtype}: give numbers as (rows, columns)")
    return Columns([str(i + 1) for i in range(array.shape[1])], list(array.T))


def _is_number(cell: str) -> bool:
    """Tell whether a cell is a number; NaN is one, because it marks a missing value and is no name of a column."""
    try:
        float(cell)
    except ValueError:
        return False
    return True


def _number(cell: Any) -> float:
    """Convert a cell to a number, or to NaN if it is none."""
    try:
        return float(cell)
    except (ValueError, TypeError):
        return float("nan")


READERS = {
    ".csv": read_csv,
    ".tsv": read_csv,
    ".txt": read_csv,
    ".parquet": read_parquet,
    ".npy": read_array,
    ".npz": read_array,
}
