"""The contents of archives of pictures, found without decoding a picture, and kept in the cache for later starts."""

import io
import json
import os
import zipfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from genlab.errors import InputError
from genlab.machine.files import write_atomically

NO_LABEL = -1  # how the datasets of the Hugging Face hub mark labels that are not published

Label = str | int | None


@dataclass(frozen=True)
class Contents:
    """The contents of one archive.

    Attributes:
        names: a different name for each picture.
        where: where each picture lies in the archive, int64 ``(N, 2)``, as its source reads it.
        labels: what the archive says of the class of each picture: a text or an integer, or None if it says nothing.
        classes: names of the classes whose numbers ``labels`` are; None if the archive names none.
        left_out: what is not read, counted by reason.
        digest: hash of a part of the archive, which is the same wherever it lies.
    """

    names: list[str]
    where: np.ndarray
    labels: Sequence[Label]
    classes: tuple[str, ...] | None = None
    left_out: Counter[str] = field(default_factory=Counter)
    digest: str = ""


@dataclass(frozen=True)
class Index:
    """The contents of the archives of a split.

    Attributes:
        names: a different name for each picture.
        where: number of the archive, and where the picture lies in it, int64 ``(N, 3)``.
        labels: classes, int64 ``(N,)``; zeros if there are none.
        digests: hash of a part of each archive.
    """

    names: list[str]
    where: np.ndarray
    labels: np.ndarray
    digests: list[str]


@dataclass(frozen=True)
class Found:
    """The contents of all archives of a source.

    Attributes:
        splits: index of each split.
        classes: names of the classes; empty if there are none.
        left_out: what is not read, counted by reason.
    """

    splits: dict[str, Index]
    classes: list[str]
    left_out: Counter[str]


def save(path: Path, found: Found) -> None:
    """Write what was found, as a zip of NumPy's arrays."""
    facts = {
        "classes": found.classes,
        "left_out": found.left_out,
        "digests": {split: index.digests for split, index in found.splits.items()},
    }
    arrays = {"facts": _packed([json.dumps(facts)])}
    for split, index in found.splits.items():
        arrays |= {f"{split}.names": _packed(index.names), f"{split}.where": index.where}
        arrays[f"{split}.labels"] = index.labels
    content = io.BytesIO()
    np.savez(content, **arrays)  # type: ignore[arg-type]  # its stub takes these for its own argument
    write_atomically(path, content.getvalue())


def load(path: Path) -> Found | None:
    """Read what :func:`save` wrote; None if there is no such file, or it is damaged."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            facts = json.loads(_unpacked(arrays["facts"])[0])
            splits = {
                split: Index(
                    _unpacked(arrays[f"{split}.names"]), arrays[f"{split}.where"], arrays[f"{split}.labels"], digests
                )
                for split, digests in facts["digests"].items()
            }
        return Found(splits, list(facts["classes"]), Counter(facts["left_out"]))
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile):
        return None


def joined(archives: Sequence[Contents], labels: np.ndarray) -> Index:
    """Make the index of a split from what each of its archives holds and from the numbers of the classes."""
    where = [np.insert(part.where, 0, i, axis=1) for i, part in enumerate(archives)]
    names = [name for part in archives for name in part.names]
    return Index(names, np.concatenate(where), labels, [part.digest for part in archives])


def numbered(
    split: str, labels: Sequence[Label], names: Sequence[str], classes: Sequence[str | int], stated: bool
) -> np.ndarray | None:
    """Give the numbers of a split's classes, int64 ``(N,)``; None if the split says nothing of its classes.

    Args:
        split: name of the split, for messages.
        labels: what the archives say of each picture's class.
        names: names of the pictures, for messages.
        classes: all classes, in the order of their numbers.
        stated: whether the archives name the classes, so that ``labels`` are their numbers already.

    Raises:
        InputError: if some of the pictures have no class, or one that is not among ``classes``.
    """
    without = [i for i, label in enumerate(labels) if label is None or (stated and label == NO_LABEL)]
    if len(without) == len(labels):
        return None
    if without:
        raise InputError(
            f"{names[without[0]]} has no label, and others of {split} have one: label all of them, or none is read by "
            "dataset.source.label=null"
        )
    number = {i: i for i in range(len(classes))} if stated else {label: i for i, label in enumerate(classes)}
    unknown = next((i for i, label in enumerate(labels) if label not in number), None)
    if unknown is not None:
        whose = f"of the {len(classes):,} that the files name" if stated else "of those of the training images"
        raise InputError(f"{names[unknown]} has the label {labels[unknown]}, which is none {whose}")
    return np.array([number[label] for label in labels], dtype=np.int64)  # type: ignore[index]


def _packed(texts: Sequence[str]) -> np.ndarray:
    """Write texts as bytes, each with its end; names of files need not be UTF-8."""
    return np.frombuffer(b"".join(os.fsencode(text) + b"\0" for text in texts), dtype=np.uint8)


def _unpacked(content: np.ndarray) -> list[str]:
    return [os.fsdecode(text) for text in content.tobytes().split(b"\0")[:-1]]
