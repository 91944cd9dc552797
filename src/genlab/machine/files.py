"""Files that are there whole or not at all."""

import os
import tempfile
from pathlib import Path

_umask = os.umask(0)  # it can only be read by setting it
os.umask(_umask)


def write_atomically(path: Path, content: str | bytes) -> None:
    """A kill leaves the old file or the new one, never a half."""
    data = content.encode() if isinstance(content, str) else content
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        os.chmod(name, 0o666 & ~_umask)  # as any file; a temporary one is its owner's alone
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise
