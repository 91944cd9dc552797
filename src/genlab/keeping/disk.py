"""The room that folders take on the disk: files with several names (hard links) count once, links are not followed."""

import stat
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

_BLOCK = 512  # bytes of a block of st_blocks, whatever the file system's own blocks are


@dataclass
class Room:
    """The files of some folders.

    Attributes:
        files: for each file, by device and number: its bytes on the disk, how many of its names were met, and how many
            it has in all.
    """

    files: dict[tuple[int, int], tuple[int, int, int]] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes on the disk."""
        return sum(size for size, _, _ in self.files.values())

    @property
    def freed(self) -> int:
        """Bytes that are free when the folders are gone: of files that have no names elsewhere."""
        return sum(size for size, met, names in self.files.values() if met >= names)


def together(rooms: Iterable[Room]) -> Room:
    """Join the files of several folders, of which none lies within another."""
    files = dict[tuple[int, int], tuple[int, int, int]]()
    for room in rooms:
        for key, (size, met, names) in room.files.items():
            files[key] = (size, met + files.get(key, (0, 0, 0))[1], names)
    return Room(files)


def room_of(path: Path) -> Room:
    """Measure a folder with all that is in it; what cannot be read, or goes away meanwhile, is left out.

    Args:
        path: path of the folder, or of a file.
    """
    files, waiting = dict[tuple[int, int], tuple[int, int, int]](), [path]
    while waiting:
        here = waiting.pop()
        try:
            about = here.lstat()
            is_folder = stat.S_ISDIR(about.st_mode)
            waiting += here.iterdir() if is_folder else ()
        except OSError:
            continue
        size = about.st_blocks * _BLOCK if hasattr(about, "st_blocks") else about.st_size
        names = 1 if is_folder else about.st_nlink  # a folder's count is of the folders in it
        key = (about.st_dev, about.st_ino)
        files[key] = (size, files.get(key, (0, 0, 0))[1] + 1, names)
    return Room(files)
