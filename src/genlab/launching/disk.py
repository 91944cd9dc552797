"""Say in one line what is wrong with the disk that a run writes to."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from genlab.errors import InputError

FULL = {errno.ENOSPC, errno.EDQUOT}
REFUSED = {errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EIO, errno.ESTALE, errno.ENAMETOOLONG}


@contextmanager
def disk_errors(folder: Path) -> Iterator[None]:
    """Turn errors of the disk, where a run writes, into an InputError.

    Args:
        folder: folder of the run, which may not exist yet.

    Raises:
        InputError: if the disk is full, refuses to be written to, or if the folder was removed.
    """
    folder = folder.absolute()
    was_there = folder.is_dir()
    try:
        yield
    except OSError as error:
        name = error.filename if isinstance(error.filename, str | Path) else None
        path = Path(name) if name else folder
        if error.errno in FULL:
            raise InputError(
                f"no space left on the disk of {folder}{f' (for {path.name})' if name else ''}: make room, and go on "
                f"with genlab train resume={folder}"
            ) from error
        near = path.absolute().is_relative_to(folder) or folder.is_relative_to(path.absolute())
        if error.errno in REFUSED and near:
            raise InputError(f"{path} cannot be written: {error.strerror}") from error
        if isinstance(error, FileNotFoundError) and near and not folder.is_dir():
            what = "is gone: it was removed while the run was training" if was_there or name else "cannot be made"
            raise InputError(f"the run folder {folder} {what}") from error
        raise
