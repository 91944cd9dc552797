"""Pictures in Parquet files, as the Hugging Face hub stores data sets of images."""

import json
import threading
from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from genlab.data.archive_index import Contents, Label
from genlab.data.arrow import parquet_file, reading
from genlab.data.picture_archives import Opened, PictureArchives, digest_of_ends
from genlab.errors import InputError

ROWS = 32  # that are read at once; twice as many are kept, as threads read them nearly in order
LABELS = ("label", "labels", "class", "cls")  # names of columns that are taken for classes, if the file names none


class ParquetImages(PictureArchives):
    """Source of the pictures in Parquet files: a column with the bytes of a picture's file in each row.

    The column is binary, or a struct with a field ``bytes``, as the hub's feature ``Image`` is. The class is an integer
    or a text. What the hub's ``datasets`` note in the schema is used: which columns are images, and the names of the
    classes of a ``ClassLabel``.

    The arguments are those of :class:`~genlab.data.picture_archives.PictureArchives`: ``image`` and ``label`` are names
    of columns.
    """

    suffix = ".parquet"
    instead = "pictures in folders are read by dataset=image_folder"

    def contents(self, path: Path) -> Contents:
        with parquet_file(path) as file:
            schema, features, num = file.schema_arrow, _features(file.schema_arrow), file.metadata.num_rows
            _image_column(path, schema, features, self.image)
            label = _label_column(path, schema, features, self.label)
            labels: list[Label] = [None] * num
            if label is not None:
                _check_label(path, schema, label)
                labels = _read_labels(path, file, label)
        named = features.get(label, {}).get("names") if label is not None else None
        where = np.stack([np.arange(num, dtype=np.int64), np.zeros(num, dtype=np.int64)], 1)
        classes = None if not named or any(isinstance(value, str) for value in labels) else tuple(map(str, named))
        return Contents([str(row) for row in range(num)], where, labels, classes, Counter(), digest_of_ends(path))

    def opened(self) -> Opened:
        return _Rows(self.image)


class _Rows:
    """Reader of pictures from Parquet files, which is fast for rows in order and possible for any.

    Rows are unpacked in small parts, of which the last two are kept, so that a file whose rows are one block does not
    have to fit in memory.
    """

    def __init__(self, image: str | None) -> None:
        self.image = image
        self._lock = threading.Lock()
        self._parts: deque[tuple[Path, int, Any]] = deque(maxlen=2)
        self._path: Path | None = None
        self._file: Any = None
        self._column = ""
        self._starts: list[int] = []  # first row of each block
        self._left: Iterator[Any] = iter(())
        self._next = -1  # row that is unpacked next; below 0 before the first

    def __getstate__(self) -> dict[str, Any]:
        return {"image": self.image}  # a worker opens the files for itself

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(**state)  # type: ignore[misc]

    def __call__(self, path: Path, row: int, _: int) -> bytes:
        with self._lock:
            value = self._value(path, row)
        content = value.get("bytes") if isinstance(value, dict) else value
        if content is None:
            raise InputError(
                f"{path}: row {row} has no picture, or only the path of one: write the files' bytes into the column"
            )
        return content

    def _value(self, path: Path, row: int) -> Any:
        if (found := self._kept(path, row)) is not None:
            return found[0]
        if path != self._path:
            self._open(path)
        block = self._starts[bisect_right(self._starts, row) - 1]
        if not block <= self._next <= row:
            self._begin(block)
        with reading(path):
            while (found := self._kept(path, row)) is None:
                part = next(self._left, None)
                if part is None:
                    raise OSError("it has fewer rows than before")
                self._parts.append((path, self._next, part.column(0)))
                self._next += len(part)
        return found[0]

    def _kept(self, path: Path, row: int) -> tuple[Any] | None:
        for of, first, values in self._parts:
            if of == path and first <= row < first + len(values):
                return (values[row - first].as_py(),)
        return None

    def _open(self, path: Path) -> None:
        self._parts.clear()
        self._path, self._next = None, -1
        self._file = parquet_file(path, memory_map=True)  # else a block is read as a whole, buffered or not
        schema, metadata = self._file.schema_arrow, self._file.metadata
        self._column = _image_column(path, schema, _features(schema), self.image)
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = [0, *accumulate(sizes)][: len(sizes)]
        self._path = path

    def _begin(self, block: int) -> None:
        """Begin to read at a block of rows."""
        groups = list(range(self._starts.index(block), len(self._starts)))
        self._left = self._file.iter_batches(batch_size=ROWS, row_groups=groups, columns=[self._column])
        self._next = block


def _features(schema: Any) -> dict[str, dict[str, Any]]:
    """Read what the hub's ``datasets`` note of each column in the schema."""
    try:
        noted = json.loads((schema.metadata or {})[b"huggingface"])["info"]["features"]
        return {name: feature for name, feature in noted.items() if isinstance(feature, dict)}
    except (KeyError, ValueError, TypeError, AttributeError):
        return {}


def _image_column(path: Path, schema: Any, features: dict[str, dict[str, Any]], wanted: str | None) -> str:
    """Choose what to read of a row: the column of pictures, or its field ``bytes``.

    Raises:
        InputError: if there is no such column, or there are several.
    """
    from pyarrow import types

    def with_bytes(name: str) -> bool:
        of = schema.field(name).type
        return types.is_struct(of) and of.get_field_index("bytes") >= 0

    def is_binary(name: str) -> bool:
        return types.is_binary(schema.field(name).type) or types.is_large_binary(schema.field(name).type)

    _check_named(path, schema, "image", wanted)
    readable = [name for name in schema.names if with_bytes(name) or is_binary(name)]
    noted = [name for name in readable if features.get(name, {}).get("_type") == "Image"]
    structs = [name for name in readable if with_bytes(name)]
    found = [name for name in readable if name == wanted] if wanted else noted or structs or readable
    if not found:
        which = f"the column {wanted} holds no pictures" if wanted else "no column holds pictures"
        raise InputError(
            f"{path}: {which} (binary, or a struct with bytes); it has {_shown(schema)}; a table of numbers is read by "
            "dataset=table"
        )
    if len(found) > 1:
        raise InputError(f"{path} has the pictures {', '.join(found)}: choose one by dataset.source.image={found[0]}")
    return f"{found[0]}.bytes" if with_bytes(found[0]) else found[0]


def _label_column(path: Path, schema: Any, features: dict[str, dict[str, Any]], wanted: str | None) -> str | None:
    """Choose the column of classes; None if there is none.

    Raises:
        InputError: if there is no column of the name, or there are several.
    """
    if wanted != "auto":
        _check_named(path, schema, "label", wanted)
        return wanted
    noted = [name for name in schema.names if features.get(name, {}).get("_type") == "ClassLabel"]
    if len(noted) > 1:
        raise InputError(f"{path} has the classes {', '.join(noted)}: choose some by dataset.source.label={noted[0]}")
    return next((name for name in (*noted, *LABELS) if name in schema.names), None)


def _check_named(path: Path, schema: Any, key: str, wanted: str | None) -> None:
    if wanted not in (None, *schema.names):
        raise InputError(f"dataset.source.{key}={wanted}: {path} has no such column; it has {_shown(schema)}")


def _check_label(path: Path, schema: Any, name: str) -> None:
    from pyarrow import types

    of = schema.field(name).type
    of = of.value_type if types.is_dictionary(of) else of
    kinds = (types.is_integer, types.is_boolean, types.is_string, types.is_large_string)
    if not any(is_kind(of) for is_kind in kinds):
        raise InputError(
            f"{path}: the classes in {name} are of the type {of}, and integers or texts are read: choose another "
            "column by dataset.source.label=..., or null for no classes"
        )


def _read_labels(path: Path, file: Any, name: str) -> list[Label]:
    with reading(path):
        values = file.read(columns=[name]).column(0).to_pylist()
    return [int(value) if isinstance(value, bool) else value for value in values]


def _shown(schema: Any) -> str:
    return ", ".join(f"{field.name} ({field.type})" for field in schema) or "no columns"
