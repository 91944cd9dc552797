"""Sources of texts: files, tiny-shakespeare and Python's own documentation. No heavy library is imported here."""

import hashlib
from importlib import import_module
from pathlib import Path
from typing import Protocol

from genlab.data.folders import counted, find_files
from genlab.errors import InputError
from genlab.machine.downloads import download

SUFFIXES = {".txt", ".md"}


class TextSource(Protocol):
    """Source of a text."""

    def read(self) -> str:
        """Read the whole text.

        Raises:
            InputError: if there is no text, or it cannot be read.
        """
        ...


class TextFiles:
    """Text of a UTF-8 file, or of all ``.txt`` and ``.md`` files in a folder, sorted by path, blank lines in between.

    A folder is searched as :func:`~genlab.data.folders.find_files` does.

    Args:
        path: path of the file, or of the folder.

    Attributes:
        found: how many texts were found in a folder and what was left out, in one line, after they are read.
    """

    found = ""

    def __init__(self, path: str) -> None:
        self.path = Path(path).expanduser()

    def read(self) -> str:
        """Read the whole text.

        Raises:
            InputError: if there is no file, or one is not a text in UTF-8.
        """
        if self.path.is_dir():
            found = find_files(self.path, SUFFIXES)
            files, left_out = found.files, f"; left out: {counted(found.skipped)}" if found.skipped else ""
            if not files:
                wanted = ", ".join(sorted(SUFFIXES))
                raise InputError(f"there are no texts in {self.path} ({wanted} are looked for{left_out})")
            self.found = f"{self.path}: {len(files):,} texts{left_out}"
        elif self.path.exists():
            files = [self.path]
        else:
            raise InputError(f"there is no {self.path}: give a file or a folder of texts as dataset.source.path=...")
        text = "\n\n".join(map(read_text, files))
        if not text.strip():
            raise InputError(f"{self.path} is empty: give a file or a folder of texts as dataset.source.path=...")
        return text


def read_text(path: Path) -> str:
    """Read a file's text, without the byte order mark that some editors put at its start.

    Raises:
        InputError: if the file cannot be read, or is not in UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror})") from error
    if (at := content.find(b"\0")) >= 0:
        raise InputError(f"{path} is no text: byte {at + 1} is NUL; give files in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not in UTF-8 (byte {error.start + 1}): convert it, as by iconv -f latin1 -t utf-8"
        ) from error


class Shakespeare:
    """Text of tiny-shakespeare: 1,115,394 characters of the plays, downloaded once from char-rnn (Karpathy, 2015).

    Args:
        root: folder that holds ``tinyshakespeare/input.txt``, or to which it is downloaded.
    """

    URL = "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt"
    SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"

    def __init__(self, root: str) -> None:
        self.path = Path(root).expanduser() / "tinyshakespeare" / "input.txt"

    def read(self) -> str:
        """Read the text, after downloading it if necessary.

        Raises:
            InputError: if the file is damaged, or is missing and cannot be downloaded.
        """
        if not self.path.is_file():
            self._download()
        content = self.path.read_bytes()
        if hashlib.sha256(content).hexdigest() != self.SHA256:
            raise InputError(
                f"{self.path} is damaged (its sha256 is not tiny-shakespeare's): delete it, and it is downloaded again"
            )
        return content.decode()

    def _download(self) -> None:
        try:
            download(self.URL, self.path, self.SHA256)
        except OSError as error:
            raise InputError(
                f"tiny-shakespeare is not in {self.path.parent} and could not be downloaded from {self.URL}: put that "
                "file there as input.txt, or give the folder above tinyshakespeare/ as dataset.source.root=..."
            ) from error


class PythonDocs:
    """Text of the topics of Python's ``help()``: half a million characters about the language, part of CPython.

    The text differs a little from one version of Python to the next.
    """

    def read(self) -> str:
        """Read the topics, sorted by name.

        Raises:
            InputError: if Python was installed without them.
        """
        try:
            topics: dict[str, str] = import_module("pydoc_data.topics").topics
        except ImportError as error:
            raise InputError(
                "this Python was installed without pydoc_data.topics: give a text of your own as dataset=text "
                "dataset.source.path=FILE"
            ) from error
        return "\n\n".join(topics[name] for name in sorted(topics))
