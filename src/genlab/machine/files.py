"""Atomic writing of files, also on a disk that is full."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

_umask = os.umask(0)  # the umask can be read only by setting it
os.umask(_umask)

FULL = (errno.ENOSPC, errno.EDQUOT)
_BLOCK = 2**16


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that an interruption leaves either the old file or the complete new one; texts are in UTF-8.

    Raises:
        OSError: if the system refuses; it names this file.
    """
    # The names of files, which texts may hold, need not be UTF-8: their bytes are written as they are.
    data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
    with naming(path):
        new = new_beside(path)
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)
        except BaseException:
            discard(new)
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


def write_even_if_full(path: Path, content: str) -> None:
    """Write a small file atomically; if the disk is full, write over the old file, in the space that it has.

    Args:
        path: path of the file.
        content: new content. If the old file is shorter and the disk is full, the file stays as it was.

    Raises:
        OSError: if neither is possible.
    """
    data = content.encode()
    try:
        write_atomically(path, data)
    except OSError as error:
        if error.errno not in FULL:
            raise
        # A file system hands out whole blocks, so that a text of a few lines has room to grow.
        with path.open("r+b", buffering=0) as file:
            before = file.read()
            try:
                file.seek(0)
                file.write(data)
                file.truncate(len(data))
                os.fsync(file.fileno())
            except OSError:
                file.seek(0)
                file.write(before)
                raise


def link(source: Path, target: Path) -> None:
    """Make a file another name of one that is never written in again, or its copy where a disk has no such links.

    Args:
        source: file that exists.
        target: new name in the same file system; a file of this name is replaced.

    Raises:
        OSError: if the system refuses; it names the target.
    """
    with naming(target):
        new = target.with_name(f".{target.name}.link")
        new.unlink(missing_ok=True)
        try:
            os.link(source, new)
        except OSError as error:
            if error.errno in FULL or not source.exists():
                raise
            shutil.copyfile(source, new)
        os.replace(new, target)
        new.unlink(missing_ok=True)  # it stays if both were the same file already


def discard(path: Path) -> None:
    """Remove a file and free its space at once, even if something, such as torch's writer, has it open still."""
    with contextlib.suppress(OSError):
        os.truncate(path, 0)
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)


def check_writable(path: Path) -> None:
    """Write a block to the end of a file, so that the system says what is wrong with the disk.

    Args:
        path: path of the file, which is spoilt by this.

    Raises:
        OSError: if nothing more can be written, with the system's reason and the path.
    """
    with path.open("ab") as file:
        file.write(bytes(_BLOCK))
        file.flush()
        os.fsync(file.fileno())


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Give the system's errors inside the context the name of a file that the user knows, not of a temporary one.

    Args:
        path: path of the file that is written.

    Raises:
        OSError: what was raised inside, of the same kind.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
