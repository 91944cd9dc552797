"""Walking of folders of data: which files are read, and what is left out and why."""

import os
import sys
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from genlab.errors import InputError
from genlab.machine.process import is_first

# Folders that programs leave among a user's data, besides those whose names begin with a dot.
_NOT_DATA = {"__macosx", "__pycache__", "@eadir", "lost+found", "$recycle.bin", "system volume information"}
_said: set[str] = set()


@dataclass(frozen=True)
class Found:
    """Files that were found below a folder, and what was left out.

    Attributes:
        files: paths of the files, sorted.
        skipped: how many files, links and folders were left out, by reason.
    """

    files: list[Path] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def find_files(folder: Path, suffixes: Collection[str], without: Collection[Path] = ()) -> Found:
    """Find the files below a folder whose suffixes, in lower case, are among ``suffixes``.

    Links to folders are followed, except where they lead to a folder that contains them. Hidden files and folders, and
    those that programs leave behind (such as ``__MACOSX``), are left out.

    Args:
        folder: path of the folder.
        suffixes: suffixes in lower case, each with its dot.
        without: paths of folders below ``folder`` that are not entered.

    Raises:
        InputError: if a folder cannot be read.
    """
    found = Found()
    _walk(folder, (), suffixes, without, found)
    found.files.sort(key=lambda path: path.parts)  # the order of paths, whose own comparison takes many times as long
    return found


def subfolders(folder: Path) -> list[Path]:
    """List the folders in a folder that can hold data, sorted by name; links to folders are among them.

    Raises:
        InputError: if the folder cannot be read.
    """
    return [folder / entry.name for entry in _entries(folder) if _is(entry.is_dir) and not _is_left_out(entry.name)]


def say(line: str) -> None:
    """Print a line on stderr, in the first process of a run only, and each line only once; an empty one never."""
    if line and is_first() and line not in _said:
        _said.add(line)
        print(f"genlab: {line}", file=sys.stderr)


def counted(counts: Mapping[str, int]) -> str:
    """Write counts in words, the largest first: ``{"hidden": 1, ".txt": 3}`` becomes ``.txt 3, hidden 1``."""
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda item: (-item[1], item)))


def _walk(
    folder: Path, above: tuple[Path, ...], suffixes: Collection[str], without: Collection[Path], found: Found
) -> None:
    real = folder.resolve()
    if any(real == other or real in other.parents for other in above):
        found.skipped["links in a circle"] += 1
        return
    for entry in _entries(folder):
        path = folder / entry.name
        if _is(entry.is_dir):
            if _is_left_out(path.name):
                found.skipped[f"{path.name}/"] += 1
            elif path not in without:
                _walk(path, (*above, real), suffixes, without, found)
        elif path.name.startswith("."):
            found.skipped["hidden files"] += 1
        elif not _is(entry.is_file):
            found.skipped["links that lead nowhere" if entry.is_symlink() else "neither files nor folders"] += 1
        elif (suffix := path.suffix.lower()) in suffixes:
            found.files.append(path)
        else:
            found.skipped[suffix or "no suffix"] += 1


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """List the entries of a folder, which know what they are without asking the system for each."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        raise InputError(f"the folder {folder} cannot be read ({error.strerror})") from error


def _is(kind: Callable[[], bool]) -> bool:
    """Tell whether an entry is of a kind; not if the system does not say, as for links into forbidden folders."""
    try:
        return kind()
    except OSError:
        return False


def _is_left_out(name: str) -> bool:
    return name.startswith(".") or name.lower() in _NOT_DATA
