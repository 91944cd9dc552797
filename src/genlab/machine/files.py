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
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.chmod(name, 0o666 & ~_umask)  # the usual permissions; only its owner can read a temporary file
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
