"""pyarrow, which reads Parquet files and need not be installed."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from genlab.errors import InputError


def parquet_file(path: Path, **options: Any) -> Any:
    """Open a Parquet file as ``pyarrow.parquet.ParquetFile``.

    Args:
        path: path of the file.
        **options: arguments of pyarrow's class.

    Raises:
        InputError: if pyarrow is not installed, or the file is no Parquet file.
    """
    try:
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(f"{path} is read by pyarrow, which is not installed: pip install 'genlab[parquet]'") from error
    with reading(path):
        return parquet.ParquetFile(path, **options)


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Explain in one line what goes wrong while a Parquet file is read.

    Raises:
        InputError: if pyarrow, or the system, raises an error.
    """
    from pyarrow import ArrowException

    try:
        yield
    except (ArrowException, OSError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path} cannot be read as Parquet ({reason}): copy it again, or take it away") from error
