"""Any table of numbers as points, from a CSV, Parquet or NumPy file."""

import re
import sys
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from genlab.data.arrow import parquet_file, reading
from genlab.data.batches import Transform
from genlab.data.examples import Examples, Split
from genlab.data.points import PointDataModule
from genlab.data.table_text import Columns, Header, read_text
from genlab.errors import InputError


class Table:
    """Source of the rows of a file as float64 points ``(N, D)``; every cell must be a finite number.

    Rows and columns are counted from 1; a header does not count as a row.

    Args:
        path: path of a ``.csv``, ``.tsv`` or ``.txt`` file (separated by tabs, semicolons, commas or spaces, whichever
            of these comes first in this list and occurs in the first line), a ``.parquet`` file, a ``.npy`` file with
            an array ``(N, D)``, or a ``.npz`` file with one such array.
        columns: names or numbers of the columns to take, in this order; ``None`` for all.
        header: whether the first row of a file in text form is a header. ``auto`` takes it for one if none of its
            cells is a number, or if they are 0, 1, 2, ... or 1, 2, 3, ... in order; ``text`` only in the first case,
            as earlier versions did.

    Attributes:
        header_found: where the columns' names come from; known after :meth:`load`.

    Raises:
        InputError: if ``columns`` is empty.
    """

    def __init__(self, path: str, columns: Sequence[str | int] | None = None, header: Header = "auto") -> None:
        if columns is not None and len(columns) == 0:
            raise InputError("columns=[]: name at least one, or null for all")
        self.path, self.columns, self.header = Path(path).expanduser(), columns, header
        self.header_found = "unknown"

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
        columns = read_text(self.path, self.header) if read is read_text else read(self.path)
        self.header_found = columns.header
        if columns.numbered is not None:
            first = columns.numbered if len(columns.numbered) < 40 else f"{columns.numbered[:20]}..."
            print(
                f"genlab: {self.path}: the first row, {first}, is taken for a header; if it is data, give "
                "dataset.source.header=false",
                file=sys.stderr,
            )
        values = self._chosen(columns)
        return {"train": Examples(torch.from_numpy(values), torch.zeros(len(values), dtype=torch.long))}

    def _chosen(self, read: "Columns") -> np.ndarray:
        """Give the chosen columns as float64 ``(N, D)``."""
        names = read.names
        if not names or not len(read.cells[0]):
            raise InputError(f"{self.path} has no rows")
        chosen = []
        for column in range(1, len(names) + 1) if self.columns is None else self.columns:
            name = column.lstrip("# ") if isinstance(column, str) and column not in names else column
            if isinstance(name, str) and names.count(name) > 1:
                raise InputError(
                    f"columns: {self.path} has {names.count(name)} columns of the name {name}; give their numbers"
                )
            if name in names and isinstance(name, str):
                chosen.append(names.index(name))
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
                f"{self.path}: row {row + 1}, column {name} is {_shown(cell)}, not a number{_hint(row, cell)}; mend "
                "it, or name the columns to take as dataset.source.columns=[...]"
            )
        self._check_distinct(name, values, numbers)
        return numbers

    def _check_distinct(self, name: str, values: np.ndarray, numbers: np.ndarray) -> None:
        """Raise InputError if integers of a column, such as ids, are different, but the same in float64."""
        if values.dtype.kind in "iu":
            exact = values
        elif (np.abs(numbers) >= 2**53).any():
            exact = np.array([_exact(str(cell)) for cell in values], object)
        else:
            return
        order = np.argsort(exact, kind="stable")
        same = (np.diff(numbers[order]) == 0) & (exact[order][1:] != exact[order][:-1]).astype(bool)
        if same.any():
            at = order[int(np.argmax(same))], order[int(np.argmax(same)) + 1]
            raise InputError(
                f"{self.path}: column {name} has {exact[at[0]]} and {exact[at[1]]}, which are the same in float64 (53 "
                "bits); leave the column out by dataset.source.columns=[...]"
            )


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

    stored_as = torch.float64
    mean: Tensor
    std: Tensor

    def __init__(self, source: Table, name: str, shape: tuple[int], standardize: bool = True, **options: Any) -> None:
        super().__init__(source, name, shape, **options)
        self.standardize = standardize

    @property
    def protocol(self) -> dict[str, object]:
        protocol = {**super().protocol, "standardized": "by the training rows" if self.standardize else "no"}
        if (header := getattr(self.source, "header_found", None)) is not None and self.splits:
            protocol["header"] = header
        if self.splits:  # of the rows as models see them, because the training rows standardise them
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
        self._check_precision()
        test = self.first("test")
        self._test_sha256 = Examples(test, torch.zeros(len(test))).fingerprint()

    def _check_precision(self) -> None:
        """Check that float32, in which models see the values, can tell them apart.

        Raises:
            InputError: if it cannot, because some are too large or too far from the others.
        """
        transform = self.transform("train")
        for split, examples in self.splits.items():
            rows = examples.images
            assert rows is not None
            seen = transform(rows, torch.arange(len(rows)), 0)
            as_seen = "after standardising " if self.standardize else ""
            for column in range(rows.shape[1]):
                values, kept = rows[:, column], seen[:, column]
                farthest = float(values[(values - values.median()).abs().argmax()])
                at = f"dataset {self.name}: column {column + 1} of {rows.shape[1]} has the {split} value {farthest:g}"
                if not (kept.isfinite().all() and self.std[column].isfinite()):
                    raise InputError(f"{at}, which is too large for float32; mend it, or leave its row out")
                if split == "train" and 2 * len(kept.unique()) < len(values.unique()):
                    raise InputError(
                        f"{at}, so far from the others that most of them are the same number {as_seen}in float32; mend "
                        "it, or leave its row out"
                    )

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


def read_parquet(path: Path) -> Columns:
    """Read a Parquet file.

    Raises:
        InputError: if the file cannot be read, or pyarrow is not installed.
    """
    with parquet_file(path) as file, reading(path):
        table = file.read()
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


def _exact(cell: str) -> int | float:
    return int(cell) if re.fullmatch(r"[+-]?\d+", cell.strip()) else float(cell)


def _shown(cell: str) -> str:
    cell = " ".join(cell.split())
    return f"{cell[:40]}..." if len(cell) > 40 else cell or "empty"


def _hint(row: int, cell: str) -> str:
    """Say what a cell that is no number may be."""
    if re.fullmatch(r"[+-]?\d+,\d+", cell):
        return " (decimals are written with a point)"
    return " (if the first row holds names, give dataset.source.header=true)" if row == 0 and cell else ""


def _number(cell: Any) -> float:
    """Convert a cell to a number, or to NaN if it is none."""
    try:
        return float(cell)
    except (ValueError, TypeError):
        return float("nan")


READERS = {
    ".csv": read_text,
    ".tsv": read_text,
    ".txt": read_text,
    ".parquet": read_parquet,
    ".npy": read_array,
    ".npz": read_array,
}
