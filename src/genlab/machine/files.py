"""Atomic writing of files."""

import os
import tempfile
from pathlib import Path

_umask = os.umask(0)  # the umask can be read only by setting it
os.umask(_umask)


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that an interruption leaves either the old file or the complete new one; texts are in UTF-8."""
    # The names of files, which texts may hold, need not be UTF-8: their bytes are written as they are.
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    new = new_beside(path)
    try:
        with new.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(new, path)
    except BaseException:
        new.unlink(missing_ok=True)
        raise


def new_beside(path: Path) -> Path:
    """Make an empty hidden file beside a path, to write to and rename, with the usual permissions.

    Args:
        path: path that the file will be renamed to.
    """
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    os.chmod(name, 0o666 & ~_umask)  # only its owner can read a temporary file
    return Path(name)
