"""Tars and Parquet files of pictures, made of files in a folder."""

import io
import json
import tarfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

Member = tuple[str, bytes]


def write_tar(path: Path, members: Iterable[Member]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


def write_parquet(
    path: Path,
    files: Sequence[Path],
    labels: Sequence[Any] | None = None,
    names: Sequence[str] | None = None,
    rows: int | None = None,
    plain: bool = False,
) -> None:
    """Write pictures as the hub stores them, with the names of the classes in the schema.

    Args:
        path: path to write to.
        files: pictures.
        labels: values of the column ``label``.
        names: names of the classes, which the schema then states.
        rows: number of rows of a block.
        plain: whether the column holds bytes instead of structs.
    """
    import pyarrow
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    contents = [file.read_bytes() for file in files]
    columns: dict[str, Any] = {"id": list(range(len(files)))}
    columns["image"] = (
        contents if plain else [{"bytes": c, "path": f.name} for c, f in zip(contents, files, strict=True)]
    )
    features: dict[str, Any] = {"image": {"_type": "Image"}}
    if labels is not None:
        columns["label"] = labels
        features["label"] = {"names": list(names), "_type": "ClassLabel"} if names else {"_type": "Value"}
    table = pyarrow.table(columns)
    if not plain:
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    parquet.write_table(table, path, row_group_size=rows, use_dictionary=False)
