"""Pictures in tar files, as WebDataset stores them: the files of an example lie together and share a key.

The standard library reads these files: a tar is a list of headers, and a picture is read from its place in the file.
The package webdataset reads tars as streams, from beginning to end, which a cache of decoded pictures does not need.
"""

import json
import tarfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from genlab.data.archive_index import Contents, Label
from genlab.data.picture_archives import Opened, PictureArchives, digest_of_ends
from genlab.data.picture_files import suffixes
from genlab.errors import InputError

_COMPRESSED = {b"\x1f\x8b": "gzip", b"BZ": "bzip2", b"\xfd7": "xz", b"(\xb5": "zstd"}  # first bytes of a file


class WebDataset(PictureArchives):
    """Source of the pictures in tar files (shards) of WebDataset: ``KEY.jpg`` beside ``KEY.cls`` or ``KEY.json``.

    The key of a file is its path up to the first dot of its name, and what follows is its part of the example. The
    class is the text of the part ``cls``, an integer or a name, or else the field ``label`` of the part ``json``.

    The arguments are those of :class:`~genlab.data.picture_archives.PictureArchives`: ``image`` is the part with the
    picture, such as ``"jpg"`` or ``"left.png"``, and ``label`` a part, such as ``"cls"``, or a field of a JSON,
    such as ``"json.label"``.
    """

    suffix = ".tar"
    instead = "pictures in folders are read by dataset=image_folder, compressed tars have to be unpacked once"

    def contents(self, path: Path) -> Contents:
        examples: dict[str, dict[str, tuple[int, int]]] = {}
        left_out = Counter[str]()
        for member in members(path):
            folder, _, file = member.name.rpartition("/")
            key, dot, part = file.partition(".")
            if not member.isreg() or member.issparse():
                left_out["links and special files"] += not member.isdir()
            elif not key or not dot or (key.startswith("__") and key.endswith("__")):
                left_out["hidden files" if not key else "files of no example"] += 1
            else:
                parts = examples.setdefault(f"{folder}/{key}" if folder else key, {})
                parts[part.lower()] = (member.offset_data, member.size)
        names, where, labels = [], [], list[Label]()
        with path.open("rb") as file_of_labels:
            for key, parts in examples.items():
                picture = self._picture(f"{path}/{key}", parts)
                label_part = self._label_part(parts)
                left_out.update(f".{part}" for part in parts if part not in (picture, label_part))
                if picture is None:
                    left_out["examples without a picture"] += 1
                    continue
                names.append(f"{key}.{picture}")
                where.append(parts[picture])
                label = None
                if label_part is not None:
                    start, size = parts[label_part]
                    file_of_labels.seek(start)
                    label = self._label(f"{path}/{key}.{label_part}", label_part, file_of_labels.read(size))
                labels.append(label)
        places = np.array(where, dtype=np.int64).reshape(-1, 2)
        return Contents(names, places, labels, None, left_out, digest_of_ends(path))

    def opened(self) -> Opened:
        return _read_part

    def _picture(self, key: str, parts: dict[str, tuple[int, int]]) -> str | None:
        """Choose the part with the picture; None if there is none."""
        if self.image is not None:
            return self.image.lower() if self.image.lower() in parts else None
        pictures = [part for part in parts if f".{part.rpartition('.')[2]}" in suffixes()]
        if len(pictures) > 1:
            raise InputError(
                f"{key} has the pictures {' and '.join(pictures[:2])} (a key ends at the first dot): choose one by "
                f"dataset.source.image={pictures[0]}"
            )
        return pictures[0] if pictures else None

    def _label_part(self, parts: dict[str, tuple[int, int]]) -> str | None:
        """Choose the part with the class; None if there is none."""
        if self.label is None:
            return None
        wanted = ("cls", "json") if self.label == "auto" else (self.label, self.label.partition(".")[0])
        return next((part for part in wanted if part in parts), None)

    def _label(self, name: str, part: str, content: bytes) -> Label:
        """Read the class of an example.

        Raises:
            InputError: if it is neither a text nor an integer, or not to be read.
        """
        try:
            text = content.decode()
            value = json.loads(text) if part == "json" else text.strip()
        except ValueError as error:
            raise InputError(f"{name} cannot be read ({error}): repair it, or dataset.source.label=null") from error
        if part == "json":
            field = "label" if self.label in ("auto", "json") else str(self.label).partition(".")[2]
            value = value.get(field) if isinstance(value, dict) else None
        if value is None or isinstance(value, str | int):
            number = isinstance(value, int) or (isinstance(value, str) and value.lstrip("-").isdecimal())
            return int(value) if number and value is not None else value
        raise InputError(
            f"{name} gives the label as {type(value).__name__}: classes are integers or texts; name another part by "
            "dataset.source.label=..., as cls or json.FIELD, or null for none"
        )


def members(path: Path) -> Iterator[tarfile.TarInfo]:
    """List what a tar holds, from its headers.

    Raises:
        InputError: if the file is no tar, is compressed, or does not end as tars do.
    """
    try:
        with path.open("rb") as file:
            if kind := _COMPRESSED.get(file.read(2)):
                raise InputError(f"{path} is compressed ({kind}), and pictures are read from anywhere in it: unpack it")
            file.seek(0)
            with tarfile.open(fileobj=file, mode="r:") as tar:
                while (member := tar.next()) is not None:
                    yield member
                    tar.members = []  # type: ignore[attr-defined]  # which would keep all of them
            # Two empty blocks, at which the reader stops; it also stops, without a word, at a damaged header.
            file.seek(tar.offset)
            rest = file.read(2**20)
    except InputError:
        raise
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        reason = " ".join(str(getattr(error, "strerror", None) or error).split())
        raise InputError(f"{path} cannot be read as a tar ({reason}): copy it again, or take it away") from error
    if not rest:
        raise InputError(
            f"{path} ends without the two empty blocks that end a tar, as one that was cut off: copy it again, or, if "
            f"it is whole, add them (truncate -s +{2 * tarfile.BLOCKSIZE} FILE)"
        )
    if rest.strip(b"\0"):
        raise InputError(
            f"{path} is damaged, or is several tars in one: copy it again, or unpack it (tar -i) and pack it anew"
        )


def _read_part(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as file:
        file.seek(start)
        return file.read(size)
